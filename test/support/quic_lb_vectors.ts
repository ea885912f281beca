// The example and the test vectors of draft-ietf-quic-load-balancers-21 (27 August 2025): section
// 5.4.2 and appendix B, as facts. Where the draft's tables slip, the note says how it is read.

/** Of all encrypted vectors. */
export const QUIC_LB_KEY = "8f95f09245765f80256934e50c66207f";

export interface QuicLbVector {
  readonly mode: "plaintext" | "single-pass" | "four-pass";
  readonly configId: number;
  readonly serverId: string;
  readonly nonce: string;
  readonly cid: string;
  readonly lengthEncoded: boolean;
}

export const QUIC_LB_VECTORS: readonly QuicLbVector[] = [
  {
    mode: "plaintext", configId: 0, serverId: "c4605e", nonce: "4504cc4f",
    cid: "07c4605e4504cc4f", lengthEncoded: true,
  },
  {
    // The table prints the server ID 350d28b420 and the nonce 3487d970b, which are not whole bytes
    // where they stand in the ID: its first byte, 20, ends a digit earlier, and says no length.
    mode: "plaintext", configId: 1, serverId: "a350d28b42", nonce: "03487d970b",
    cid: "20a350d28b4203487d970b", lengthEncoded: false,
  },
  {
    mode: "four-pass", configId: 0, serverId: "ed793a", nonce: "ee080dbf",
    cid: "0720b1d07b359d3c", lengthEncoded: true,
  },
  {
    mode: "four-pass", configId: 1, serverId: "ed793a51d49b8f5fab65", nonce: "ee080dbf48",
    cid: "2fcc381bc74cb4fbad2823a3d1f8fed2", lengthEncoded: true,
  },
  {
    mode: "single-pass", configId: 2, serverId: "ed793a51d49b8f5f", nonce: "ee080dbf48c0d1e5",
    cid: "504dd2d05a7b0de9b2b9907afb5ecf8cc3", lengthEncoded: true,
  },
  {
    // The table says config 3; the first byte, 12, says 0.
    mode: "four-pass", configId: 0, serverId: "ed793a51d49b8f5fab", nonce: "ee080dbf48c0d1e55d",
    cid: "125779c9cc86beb3a3a4a3ca96fce4bfe0cdbc", lengthEncoded: true,
  },
];

/** The four passes of 5.4.2: what goes into AES-ECB and what comes out. */
export const EXAMPLE = {
  key: "fdf726a9893ec05c0632d3956680baf0",
  serverId: "31441a",
  nonce: "9c69c275",
  cid: "0767947d29be054a",
  passes: [
    ["31441a90000000000000000000000701", "a255dd8cdacf01948d3a848c3c7fee23"],
    ["0e3c1ff9000000000000000000000702", "e5e452cb9e1bedb0b2bf830506bf4c4e"],
    ["d4a04850000000000000000000000703", "b7821ab3024fed0913b6a04d18e3216f"],
    ["09be054a000000000000000000000704", "b334357cfdf81e3fafe180154eaf7378"],
  ],
} as const;
