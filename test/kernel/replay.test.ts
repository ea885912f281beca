// `replay` as a stranger uses it: a capture in, one verdict per packet, the packets that were not dropped
// out, in order and with right checksums. Expectations come from explain and from the captures alone.

import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { readCapture, writeCapture } from "../../src/cli/capture.ts";
import { runInSync } from "../../scripts/namespaces.ts";
import { residuesOf } from "../support/checksums.ts";
import { describeKernel, KERNEL, ROOT } from "../support/kernel.ts";
import { frameOf, ICMP, ipv4, mac, TCP, UDP } from "../support/packets.ts";
import type { FrameSpec } from "../support/packets.ts";

const CONFIG = `version: 1
dataplane: { mode: auto, interfaces: [eth0], hashSeed: "0011223344556677" }
pools:
  near:
    health: { type: http, interval: 2s }
    backends:
      - { name: a, address: 10.1.0.1, mac: "02:aa:00:00:00:01" }
      - { name: b, address: 10.1.0.2 }
  far:
    backends:
      - { name: c, address: 10.2.0.1 }
      - { name: d, address: "2001:db8:2::1" }
services:
  - { name: web, address: 203.0.113.10, port: 80, protocol: tcp, forwarding: l2, pool: near,
      policy: { deny: [198.51.100.128/25] } }
  - { name: dns, address: 203.0.113.11, port: 53, protocol: udp, forwarding: ipip, pool: far }
`;
const CLIENT = ipv4(198, 51, 100, 7);
const WEB = ipv4(203, 0, 113, 10);
const DNS = ipv4(203, 0, 113, 11);
const web = (sourcePort: number, more: Partial<FrameSpec> = {}): Uint8Array =>
  frameOf({ protocol: TCP, source: CLIENT, destination: WEB, sourcePort, destinationPort: 80, flags: 2, ...more });
const dns = (sourcePort: number): Uint8Array =>
  frameOf({ protocol: UDP, source: CLIENT, destination: DNS, sourcePort, destinationPort: 53, payload: new Uint8Array(33) });

interface Row { index: number; verdict: string; action: string; service: string | null; backend: string | null }

describeKernel("replay", KERNEL, () => {
  let home: string;
  beforeAll(() => {
    home = mkdtempSync(join(tmpdir(), "pointsman-replay-"));
    writeFileSync(join(home, "config.yaml"), CONFIG);
  });
  afterAll(() => { rmSync(home, { recursive: true, force: true }); });

  const pointsman = (...args: string[]): string =>
    runInSync(null, process.execPath, [join(ROOT, "dist/src/main.js"), ...args]).stdout;
  const replay = (frames: readonly Uint8Array[]): { rows: Row[]; out: Uint8Array[] } => {
    const packets = frames.map((bytes, i) => ({ timeNs: BigInt(i) * 1_000_000n, bytes, length: bytes.length }));
    writeFileSync(join(home, "in.pcap"), writeCapture(packets));
    const rows = JSON.parse(pointsman("replay", "-c", join(home, "config.yaml"), "--in", join(home, "in.pcap"),
      "--out", join(home, "out.pcap"), "-o", "json")) as Row[];
    return { rows, out: readCapture("out.pcap", readFileSync(join(home, "out.pcap"))).map(({ bytes }) => bytes) };
  };

  it("names what became of each packet, and leaves out those that were dropped", () => {
    const frames = [
      web(40_000), frameOf({ destination: ipv4(8, 8, 8, 8) }), web(40_001, { ttl: 1 }),
      web(40_002, { source: ipv4(198, 51, 100, 200) }), Uint8Array.of(...mac(1), ...mac(2), 8, 6, 0, 1),
      frameOf({ protocol: ICMP, source: CLIENT, destination: WEB, flags: 8 }), dns(5000),
    ];
    const { rows, out } = replay(frames);
    expect(rows.map(({ index, verdict, action, service }) => [index, verdict, action, service])).toEqual([
      [0, "TX_FORWARDED", "TX", "web"], [1, "PASS_NOT_OURS", "PASS", null], [2, "DROP_TTL_EXPIRED", "DROP", "web"],
      [3, "DROP_DENIED", "DROP", "web"], [4, "PASS_NOT_IP", "PASS", null], [5, "TX_ECHO_REPLY", "TX", null],
      [6, "TX_FORWARDED", "TX", "dns"],
    ]);
    expect(rows.map(({ backend }) => backend !== null)).toEqual([true, false, false, false, false, false, true]);
    expect(out).toHaveLength(5);
    expect(out[1]).toEqual(frames[1]);
    expect(out[2]).toEqual(frames[4]);
  });

  it("rewrites link addresses to the next hop, from the address that the packet came to", () => {
    const { rows, out } = replay(Array.from({ length: 20 }, (_, i) => web(41_000 + i, { destinationMac: mac(9) })));
    const hops: Readonly<Record<string, Uint8Array>> = { "near/a": Uint8Array.of(2, 0xaa, 0, 0, 0, 1), "near/b": mac(1) };
    expect(new Set(rows.map(({ backend }) => backend))).toEqual(new Set(["near/a", "near/b"]));
    rows.forEach(({ backend }, i) => {
      const frame = out[i] ?? new Uint8Array(14);
      expect(frame.subarray(0, 6)).toEqual(hops[backend ?? ""]);
      expect(frame.subarray(6, 12)).toEqual(mac(9));
      expect(frame[22]).toBe(63);
      expect(residuesOf(frame)).toMatchObject({ headers: [0], transport: 0 });
    });
  });

  it("wraps packets for far backends of either family, and meets the backend that explain names", () => {
    const ports = [5001, 5002, 5003, 5004, 5005, 5006];
    const { rows, out } = replay(ports.map(dns));
    rows.forEach(({ backend }, i) => {
      const frame = out[i] ?? new Uint8Array(14);
      const outer = backend === "far/c" ? 20 : 40;
      expect(frame.length).toBe(dns(0).length + outer);
      expect([frame[12], frame[13]]).toEqual(outer === 20 ? [8, 0] : [0x86, 0xdd]);
      expect(residuesOf(frame).transport).toBe(0);
    });
    const explained = JSON.parse(pointsman("explain", "198.51.100.7:5001", "dns", "-c", join(home, "config.yaml"), "-o", "json")) as Row;
    expect(rows[0]?.backend).toBe(explained.backend);
  });

  it("sends an ICMP error where the flow goes that it quotes", () => {
    const ports = [41_000, 41_001, 41_002, 41_003, 41_004, 41_005];
    const errorAbout = (port: number): Uint8Array => frameOf({
      source: ipv4(203, 0, 113, 254), destination: WEB, protocol: ICMP, flags: 3, code: 4,
      payload: frameOf({
        source: WEB, destination: CLIENT, protocol: TCP, sourcePort: 80, destinationPort: port, flags: 0x10,
      }).slice(14, 42),
    });
    const { rows } = replay([...ports.map((port) => web(port)), ...ports.map(errorAbout)]);
    const flows = rows.slice(0, ports.length);
    expect(new Set(flows.map(({ backend }) => backend)).size).toBe(2);
    expect(rows.slice(ports.length).map(({ verdict, service, backend }) => ({ verdict, service, backend }))).toEqual(
      flows.map(({ backend }) => ({ verdict: "TX_ICMP_ERROR", service: "web", backend })));
  });

  it("refuses what is no capture", () => {
    const ended = runInSync(null, process.execPath, [join(ROOT, "dist/src/main.js"), "replay", "-c",
      join(home, "config.yaml"), "--in", join(home, "config.yaml"), "--out", join(home, "none.pcap")], { check: false });
    expect([ended.status, ended.stdout]).toEqual([1, ""]);
    expect(ended.stderr).toContain("CAPTURE_INVALID");
  });
});
