// The draft's connection IDs through the XDP program: each vector leads to its server, by short and long
// headers, IPv4 and IPv6, with options and extensions before them; and nothing else does.

import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { loadNative } from "../../src/dataplane/xdp/native.ts";
import { addressFromBytes } from "../../src/model/address.ts";
import { decide } from "../../src/model/decide.ts";
import { hexBytes } from "../../src/model/hex.ts";
import { parsePacket } from "../../src/model/packet.ts";
import { quicLbConfig } from "../../src/model/quic_lb.ts";
import { QUIC_OUTCOMES } from "../../src/model/quic_route.ts";
import { fixedSource } from "../../src/model/tunnel_source.ts";
import type { ForwardingTable } from "../../src/model/table.ts";
import { BpfWorld } from "../support/bpf_world.ts";
import { readGolden } from "../support/golden_packets.ts";
import { ADDON_PATH, BPF_DIRECTORY, KERNEL, describeKernel } from "../support/kernel.ts";
import { frameOf, ipv4, mac } from "../support/packets.ts";
import type { FrameSpec } from "../support/packets.ts";
import { QUIC_LB_KEY, QUIC_LB_VECTORS } from "../support/quic_lb_vectors.ts";
import type { QuicLbVector } from "../support/quic_lb_vectors.ts";

const BY_RING = 1;
const BY_ID = 2;
const ADDRESSES = {
  4: { source: ipv4(198, 51, 100, 7), destination: ipv4(203, 0, 113, 9) },
  6: {
    source: hexBytes("20010db8000000000000000000000007"),
    destination: hexBytes("20010db8000000000000000000000009"),
  },
} as const;

/** Two services that send to 1 by ring, and to 2 what names the vector's server. */
function tableOf({ configId, mode, serverId, nonce, lengthEncoded }: QuicLbVector): ForwardingTable {
  const golden = readGolden().table("keep");
  const [service] = golden.services;
  const [destination] = golden.destinations.values();
  const config = quicLbConfig({
    id: configId, serverIdBytes: serverId.length / 2, nonceBytes: nonce.length / 2, lengthEncoded,
    key: mode === "plaintext" ? null : hexBytes(QUIC_LB_KEY),
  });
  const quicLb = { configs: new Map([[configId, config]]), servers: new Map([[serverId, BY_ID]]) };
  const slots = new Uint16Array(7).fill(BY_RING);
  return {
    ...golden,
    services: ([4, 6] as const).map((family, index) => ({
      ...service!, index, quicLb, ring: { key: "", size: 7, slots, configured: slots }, destinations: [BY_RING, BY_ID],
      config: {
        ...service!.config, network: fixedSource(addressFromBytes(ADDRESSES[family].destination)),
        ports: { from: 443, to: 443 },
        protocol: "udp" as const, policy: { allow: [], deny: [] },
      },
    })),
    destinations: new Map([BY_RING, BY_ID].map((id) => [id, { ...destination!, id, forwarding: "l2", identity: BigInt(id) }])),
  };
}

const HEADERS = {
  short: (cid: Uint8Array) => Uint8Array.of(0x5a, ...cid, ...new Uint8Array(24).fill(0xee)),
  long: (cid: Uint8Array) => Uint8Array.of(0xe1, 9, 9, 9, 9, cid.length, ...cid, 0, ...new Uint8Array(24).fill(0xee)),
} as const;

const EXTENSION = { type: 60, length: 16, segmentsLeft: 0, fragment: { offset: 0, more: false } };
const SHAPES: readonly Partial<FrameSpec>[] = [
  { family: 4 }, { family: 4, optionBytes: 40 }, { family: 4, tags: [0x8100], padding: 6 },
  { family: 6 }, { family: 6, extensions: [EXTENSION, EXTENSION] }, { family: 6, tags: [0x88a8, 0x8100] },
];

describeKernel("the draft's connection IDs", [...KERNEL], () => {
  let world: BpfWorld;
  beforeAll(() => {
    world = new BpfWorld(loadNative(ADDON_PATH), {
      object: join(BPF_DIRECTORY, "pointsman.bpf.o"), flowsMax: 1024, devices: [1],
      switches: { transmit_by_redirect: false },
    });
  });
  afterAll(() => { world?.close(); });

  /** Which destination the packet went to, and what was counted of its ID. */
  function send(table: ForwardingTable, shape: Partial<FrameSpec>, payload: Uint8Array): { to: number; said: string } {
    const frame = frameOf({
      ...shape, ...ADDRESSES[shape.family!], protocol: 17, sourcePort: 5000, destinationPort: 443, payload,
      destinationMac: mac(1), sourceMac: mac(2),
    });
    const before = world.quicOutcomes();
    const run = world.run("pointsman", frame, frame.length + 64);
    expect(run.action).toBe(3);
    const said = QUIC_OUTCOMES.filter((_, at) => world.quicOutcomes()[at] !== before[at]).join();
    const decision = decide(table, { flow: null, nowNs: 0n, heartbeatNs: null, neighbour: () => true },
      parsePacket(frame) as Exclude<ReturnType<typeof parsePacket>, string>);
    const to = run.output![5]!;
    expect([decision.destination?.id, decision.quic]).toEqual([to, said]);
    return { to, said };
  }

  it.each(QUIC_LB_VECTORS)("$cid, $mode", (vector) => {
    const table = tableOf(vector);
    world.fill(table, {
      hop: ({ id }) => ({
        destinationMac: mac(id), sourceMac: mac(9), ifindex: 1, mtu: 0, vlan: 0, resolved: true, local: false,
        tunnelSource: new Uint8Array(16), tunnelSourceMask: 0,
      }),
      heartbeatNs: 0n, ringClass: "small",
    });
    const cid = hexBytes(vector.cid);
    for (const shape of SHAPES) {
      for (const header of [HEADERS.short, HEADERS.long]) {
        expect(send(table, shape, header(cid))).toEqual({ to: BY_ID, said: "routed" });
        // One bit of any byte behind the first makes another server of it, or none.
        const at = 1 + (cid.length >> 2);
        expect(send(table, shape, header(cid.with(at, cid[at]! ^ 4)))).toEqual({ to: BY_RING, said: "no_server" });
        expect(send(table, shape, header(cid.with(0, cid[0]! | 0xe0)))).toEqual({ to: BY_RING, said: "no_config" });
        expect(send(table, shape, header(cid).subarray(0, 20))).toEqual({ to: BY_RING, said: "no_id" });
      }
      expect(send(table, shape, HEADERS.long(cid.subarray(0, cid.length - 1)))).toEqual({ to: BY_RING, said: "no_id" });
    }
  });
});
