// `quic-lb encode` and `decode` from outside: from a config file and from parameters alone, what they
// refuse, and that a minted ID is decoded and explained as its backend's.

import { describe, expect, it } from "vitest";
import { explanationSchema } from "../../src/api/schemas_questions.ts";
import { runCli } from "../../src/cli/program.ts";
import { createFakeEnv } from "../support/fake_env.ts";
import { QUIC_LB_KEY, QUIC_LB_VECTORS } from "../support/quic_lb_vectors.ts";

const CONFIG = `version: 1
dataplane: { mode: proxy, hashSeed: "0011223344556677" }
services:
  - name: quic
    address: 203.0.113.10
    port: 443
    protocol: udp
    health: { type: none }
    quicLb:
      configs:
        - { id: 0, serverIdBytes: 3, nonceBytes: 4, key: "${QUIC_LB_KEY}" }
        - { id: 3, serverIdBytes: 3, nonceBytes: 13, key: "file:/quic.key" }
    backends:
      - { name: a, address: 10.0.0.1, serverIds: [aaaaaa, "000001"] }
      - { name: b, address: 10.0.0.2, serverIds: [bbbbbb] }
`;

async function cli(argv: string, files: Readonly<Record<string, string>> = {}): Promise<{ code: number; out: string; err: string }> {
  const env = createFakeEnv();
  const all = { "/config.yaml": CONFIG, "/quic.key": QUIC_LB_KEY, ...files };
  for (const [path, text] of Object.entries(all)) env.files.writeAtomic(path, text, 0o600);
  const ended = { code: -1, out: "", err: "" };
  ended.code = await runCli(argv.split(" "), {
    env,
    out: (text) => { ended.out += text; },
    err: (text) => { ended.err += text; },
    isTty: false, columns: 100, actor: "tester", confirm: () => Promise.resolve(false),
    interrupted: new AbortController().signal, onHangup: () => () => undefined, onUpgradeSignal: () => () => undefined,
    connect: () => { throw new Error("no instance is asked"); },
  });
  return ended;
}

interface Minted {
  readonly connectionId: string;
  readonly configId: number;
  readonly mode: string;
  readonly serverId: string;
  readonly nonce: string;
  readonly backend: string | null;
}

describe("quic-lb encode", () => {
  it.each(QUIC_LB_VECTORS.filter((each) => each.lengthEncoded))(
    "mints the draft's $cid from parameters alone", async ({ configId, serverId, nonce, cid, mode }) => {
      const key = mode === "plaintext" ? "" : " --key file:/quic.key";
      const ended = await cli(`quic-lb encode --config-id ${configId} --server-id ${serverId} --nonce ${nonce}`
        + `${key} --length-encoded`);
      expect(ended).toEqual({ code: 0, out: `${cid}\n`, err: "" });
    });

  it("mints for a backend of a file, each ID another one, and decode and explain know whose they are", async () => {
    const encoded = await cli("quic-lb encode -c /config.yaml --backend quic/a --config-id 3 --count 5 -o json");
    const minted = JSON.parse(encoded.out) as Minted[];
    expect(new Set(minted.map((each) => each.connectionId)).size).toBe(5);
    for (const each of minted) {
      expect(each).toMatchObject({ configId: 3, mode: "single-pass", serverId: "aaaaaa", backend: "quic/a" });
      const decoded = await cli(`quic-lb decode ${each.connectionId} -c /config.yaml -o json`);
      expect([decoded.code, JSON.parse(decoded.out)]).toEqual([0, each]);
      const explained = await cli(
        `explain 198.51.100.7:5000 quic -c /config.yaml --connection-id ${each.connectionId} -o json`);
      expect(explanationSchema.parse(JSON.parse(explained.out)).backend).toBe("quic/a");
    }
  });

  it("mints with another server ID of the backend", async () => {
    const ended = await cli("quic-lb encode -c /config.yaml --backend a --config-id 0 --server-id 000001 -o json");
    expect(JSON.parse(ended.out)).toEqual([expect.objectContaining({ serverId: "000001", mode: "four-pass" })]);
  });

  it.each([
    ["quic-lb encode -c /config.yaml --backend a", 2, "say --config-id, one of 0, 3"],
    ["quic-lb encode -c /config.yaml --config-id 0", 2, "say --backend"],
    ["quic-lb encode -c /config.yaml --config-id 1 --backend a", 2, "quic has no config 1; there are 0, 3"],
    ["quic-lb encode -c /config.yaml --config-id 0 --backend z", 1, "there is no backend z"],
    ["quic-lb encode -c /config.yaml --config-id 0 --backend b --server-id aaaaaa", 2, "quic/b has no server ID aaaaaa"],
    ["quic-lb encode -c /config.yaml --config-id 0 --backend b --nonce 00", 2, "the nonce has 4 bytes, not 1"],
    ["quic-lb encode -c /config.yaml --service web", 2, "no service web with quicLb; there are quic"],
    ["quic-lb encode -c /absent.yaml", 1, "FILE_UNREADABLE"],
    ["quic-lb encode --server-id aa --nonce-bytes 3", 2, "a nonce has 4 to 18 bytes"],
    ["quic-lb encode --server-id aa --nonce-bytes 4 --key 00", 2, "--key: this is not a key"],
    ["quic-lb encode --server-id aa --nonce-bytes 4 --key file:/absent", 1, "there is no such file"],
    ["quic-lb encode --server-id aa --nonce-bytes 4 --key file:/config.yaml", 2, "does not hold 32 hexadecimal digits"],
    ["quic-lb encode --server-id xyz --nonce-bytes 4", 2, "pairs of hexadecimal digits"],
    ["quic-lb encode --nonce-bytes 4", 2, "say --server-id"],
    ["quic-lb encode --server-id aa --nonce 00000000 --count 2", 2, "one nonce makes one ID"],
  ])("%s ends with %i: %s", async (argv, code, said) => {
    const ended = await cli(argv);
    expect([ended.code, ended.out]).toEqual([code, ""]);
    expect(ended.err).toContain(said);
  });
});

describe("quic-lb decode", () => {
  it("reads an ID by parameters alone", async () => {
    const ended = await cli("quic-lb decode 0720b1d07b359d3c --server-id-bytes 3 --nonce-bytes 4 --key file:/quic.key");
    expect(ended.out.split("\n")[1]).toMatch(/^0\s+four-pass\s+ed793a\s+ee080dbf\s+-$/);
    expect(ended.code).toBe(0);
  });

  it("ends with 1 for an ID that is nobody's", async () => {
    const ended = await cli("quic-lb decode 0720b1d07b359d3c -c /config.yaml -o json");
    expect([ended.code, JSON.parse(ended.out)]).toEqual([1, expect.objectContaining({ serverId: "ed793a", backend: null })]);
  });

  it.each([
    ["quic-lb decode e720b1d07b359d3c -c /config.yaml", 2, "quic has no config 7"],
    ["quic-lb decode 0720b1 -c /config.yaml", 2, "IDs of config 0 have 8 at least"],
    ["quic-lb decode 0720b1d07b359d3c", 2, "say --server-id-bytes"],
    [`quic-lb decode ${"00".repeat(21)} -c /config.yaml`, 2, "at most 20 bytes"],
  ])("%s ends with %i: %s", async (argv, code, said) => {
    const ended = await cli(argv);
    expect([ended.code, ended.out]).toEqual([code, ""]);
    expect(ended.err).toContain(said);
  });

  it("never shows a key", async () => {
    for (const argv of ["config show -c /config.yaml", "config show -c /config.yaml --effective"]) {
      const ended = await cli(argv);
      expect(ended.code).toBe(0);
      expect(ended.out).toContain("(hidden)");
      expect(ended.out).not.toContain(QUIC_LB_KEY);
    }
  });
});
