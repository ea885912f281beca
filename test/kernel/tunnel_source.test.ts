// Outer sources that vary by flow, from the config to the bytes that leave: within the prefix, as the
// model says, one per flow whether the ring or the flow table sends it, and none where none is wanted.

import { afterEach, expect, it } from "vitest";
import { loadNative } from "../../src/dataplane/xdp/native.ts";
import { openUnattachedPlane } from "../../src/dataplane/xdp/open_xdp.ts";
import type { XdpPlane } from "../../src/dataplane/xdp/xdp_plane.ts";
import { parseConfig } from "../../src/config/parse.ts";
import { addressFromBytes, parsePrefix } from "../../src/model/address.ts";
import { compile } from "../../src/model/compile.ts";
import { flowHash } from "../../src/model/flow_hash.ts";
import { EMPTY_LEDGER } from "../../src/model/table.ts";
import { tunnelSourceOf } from "../../src/model/tunnel_source.ts";
import { residuesOf } from "../support/checksums.ts";
import { ADDON_PATH, describeKernel, KERNEL } from "../support/kernel.ts";
import { frameOf, ipv4, TCP } from "../support/packets.ts";
import { env } from "./fixtures/plane_fixture.ts";

const SEED = 0x0011_2233_4455_6677n;
const CLIENT = ipv4(198, 51, 100, 7);
const VIRTUAL = ipv4(203, 0, 113, 10);
const SYN = 2;
const ACK = 16;

interface Setting {
  readonly source: string;
  readonly backend: string;
  readonly hash: string;
  readonly tracking: string;
}

const opened: XdpPlane[] = [];

async function planeOf({ source, backend, hash, tracking }: Setting): Promise<XdpPlane> {
  const text = `{ version: 1, instance: test, limits: { services: 8, backends: 8, flows: 1024 },
    dataplane: { mode: xdp, interfaces: [eth0], tunnelSource: { ${source} } },
    services: [{ name: web, address: 203.0.113.10, port: 80, forwarding: ipip, hash: ${hash},
      tracking: ${tracking}, backends: [{ name: b, address: "${backend}" }] }] }`;
  const parsed = parseConfig("test.yaml", new TextEncoder().encode(text));
  if ("problems" in parsed) throw new Error(JSON.stringify(parsed.problems));
  const { config } = parsed;
  const plane = await openUnattachedPlane({
    config, env, native: loadNative(ADDON_PATH), mac: "02:00:00:00:00:01",
    sourceMac: () => "02:00:00:00:00:02",
  });
  opened.push(plane);
  await plane.apply(compile(
    { config, hashSeed: SEED, overrides: [], health: new Map(), nowMs: 0 },
    { ledger: EMPTY_LEDGER, generation: 0 },
  ));
  return plane;
}

/** The outer source of a packet of the flow from this port. */
function sourceOf(plane: XdpPlane, sourcePort: number, flags: number): string {
  plane.heartbeat();
  const frame = frameOf({
    protocol: TCP, source: CLIENT, destination: VIRTUAL, sourcePort, destinationPort: 80, flags,
  });
  const run = plane.testRun(frame, {
    repeat: 1, flags: 0, context: null, outputSizeMax: 256, batchSize: 0,
  });
  const output = run.output ?? new Uint8Array(0);
  const { headers } = residuesOf(output);
  expect(headers.every((residue) => residue === null || residue === 0)).toBe(true);
  if (output[12] === 8) return output.subarray(26, 30).join(".");
  return addressFromBytes(output.subarray(22, 38)).text;
}

const PORTS = Array.from({ length: 64 }, (_, at) => 40_000 + at);
const SETTINGS = [
  ["ipv4", "10.9.0.0/24", "10.2.0.1"],
  ["ipv6", "2001:db8:9::/64", "2001:db8:2::1"],
] as const;

describeKernel("outer sources by flow", KERNEL, () => {
  afterEach(async () => {
    for (const plane of opened.splice(0)) await plane.close({ detach: true, drainMs: 0 });
  });

  const cases = SETTINGS.flatMap(([family, text, backend]) => ["full", "none"].flatMap((tracking) =>
    ["5-tuple", "source-ip"].map((hash) => ({ family, text, backend, tracking, hash }))));
  for (const { family, text, backend, tracking, hash } of cases) {
    it(`${family}, tracking ${tracking}, hash ${hash}: by the 5-tuple, always the same`, async () => {
      const plane = await planeOf({ source: `${family}: "${text}"`, backend, hash, tracking });
      const first = PORTS.map((port) => sourceOf(plane, port, SYN));
      const prefix = parsePrefix(text)!;
      expect(first).toEqual(PORTS.map((port) =>
        tunnelSourceOf(prefix, flowHash(SEED, CLIENT, port, VIRTUAL, 80, TCP)).text));
      // By the flow table now, where there is one.
      for (const flags of [ACK, ACK]) {
        expect(PORTS.map((port) => sourceOf(plane, port, flags))).toEqual(first);
      }
      expect(new Set(first).size).toBeGreaterThan(PORTS.length / 2);
    });
  }

  it("a single address, or none: one source, and no code for more", async () => {
    for (const [source, backend, wanted] of [
      ["ipv4: 10.9.0.7", "10.2.0.1", "10.9.0.7"],
      ["ipv4: 10.9.0.7/32", "10.2.0.1", "10.9.0.7"],
      ['ipv6: "2001:db8:9::7"', "2001:db8:2::1", "2001:db8:9::7"],
      ["", "10.2.0.1", "192.0.2.1"],
    ] as const) {
      const plane = await planeOf({ source, backend, hash: "5-tuple", tracking: "full" });
      expect(new Set(PORTS.map((port) => sourceOf(plane, port, SYN)))).toEqual(new Set([wanted]));
      expect(plane.inside.state.features.has("featureTunnelVariation")).toBe(false);
    }
  });
});
