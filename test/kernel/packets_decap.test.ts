// The decapsulation program of the backends: it undoes what the packet path writes, for each kind of
// tunnel, the four mixtures of families and with VLAN tags, and leaves everything else as it came.

import { join } from "node:path";
import { afterAll, beforeAll, expect, it } from "vitest";
import { parseAddress } from "../../src/model/address.ts";
import { parsePacket } from "../../src/model/packet.ts";
import { randomised } from "../support/counts.ts";
import { residue, residuesOf } from "../support/checksums.ts";
import {
  DecapRun,
  GUE_PORT,
  LOCAL_ADDRESSES,
  VIRTUAL_ADDRESSES,
  compareWithGolden,
  VLAN_TAG_BYTES } from "../support/decap_run.ts";
import { readGolden } from "../support/golden_packets.ts";
import { ADDON_PATH, BPF_DIRECTORY, describeKernel } from "../support/kernel.ts";
import { frameOf, put16 } from "../support/packets.ts";
import { Draws } from "../support/random.ts";
import { forwardedByL2, forwardedByTunnel, isAsExpected } from "../support/rewritten.ts";

const XDP_PASS = 2;
const PATH = join(BPF_DIRECTORY, "decap.bpf.o");
const OUTER = ["10.0.0.1", "fd10::1"];
const golden = readGolden();
const tunnelled = golden.cases.filter(
  ({ verdict, frame, expected }) => verdict === "TX_FORWARDED" && expected.length > frame.length + VLAN_TAG_BYTES,
);

describeKernel("decap", ["capabilities", "addon", "programs"], () => {
  let open: DecapRun;
  let strict: DecapRun;
  beforeAll(() => {
    open = new DecapRun(ADDON_PATH, PATH, {});
    strict = new DecapRun(ADDON_PATH, PATH, { decapChecksSource: true });
  });
  afterAll(() => {
    open.close();
    strict.close();
  });

  /** The verdict and the frame afterwards. */
  function run(decap: DecapRun, frame: Uint8Array): { verdict: string; output: Uint8Array } {
    const { verdict, action, output } = decap.run(frame);
    expect(action).toBe(XDP_PASS);
    return { verdict, output };
  }

  function passes(object: DecapRun, frame: Uint8Array, verdict: string): void {
    expect(run(object, frame)).toEqual({ verdict, output: frame });
  }

  it("undoes every golden tunnel packet, and leaves the others", () => {
    const { compared, wrong } = compareWithGolden(open, golden);
    expect(wrong).toEqual([]);
    expect(tunnelled.length).toBeGreaterThan(120);
    expect(compared).toBeGreaterThan(tunnelled.length + 100);
  });

  it("strips for the balancers alone, when told which they are", () => {
    for (const prefixes of [
      ["10.0.0.1/32", "fd10::1/128"],
      ["10.0.0.0/30", "fd10::/64"],
    ]) {
      for (const { expected } of tunnelled) passes(strict, expected, "DECAP_PASS_SOURCE");
      for (const each of ["10.0.0.4/30", "fd10:0:0:1::/64", ...prefixes]) strict.addSource(each);
      for (const { expected } of tunnelled)
        expect(run(strict, expected).verdict).toBe("DECAP_PASS_STRIPPED");
      for (const each of prefixes) strict.removeSource(each);
    }
  });

  it("leaves tunnels that lead to other hosts", () => {
    for (const address of LOCAL_ADDRESSES) open.removeLocal(address);
    for (const { expected } of tunnelled) passes(open, expected, "DECAP_PASS_NOT_LOCAL");
    for (const prefix of ["10.0.0.8/29", "fd10::/120"]) open.addLocal(prefix);
    for (const { expected } of tunnelled)
      expect(run(open, expected).verdict).toBe("DECAP_PASS_STRIPPED");
    for (const prefix of ["10.0.0.8/29", "fd10::/120"]) open.removeLocal(prefix);
    for (const address of LOCAL_ADDRESSES) open.addLocal(address);
  });

  it.each([
    ["outer source", 22], ["outer destination", 38], ["inner destination", 78],
  ])("does not take an IPv4-mapped %s for IPv4", (_, at) => {
    const { expected } = tunnelled.find(({ name }) => name === "v6 ipip6 udp")!;
    const frame = Uint8Array.from(expected);
    const mapped = parseAddress(at === 78 ? VIRTUAL_ADDRESSES[0]! : LOCAL_ADDRESSES[0]!)!.bytes;
    frame.set(mapped, at);
    passes(open, frame, "DECAP_PASS_MALFORMED");
  });

  it("leaves packets that are for nobody here", () => {
    for (const address of VIRTUAL_ADDRESSES) open.removeAddress(address);
    for (const { expected } of tunnelled) passes(open, expected, "DECAP_PASS_NOT_OURS");
    for (const address of VIRTUAL_ADDRESSES) open.addAddress(address);
  });

  it("leaves fragments, options and contradictions", () => {
    const { expected } = tunnelled.find(({ name }) => name === "v4 ipip4 udp")!;
    const bent = (at: number, value: number): Uint8Array => {
      const frame = Uint8Array.from(expected);
      frame[at] = value;
      return frame;
    };
    passes(open, bent(14, 0x46), "DECAP_PASS_NOT_TUNNEL");
    passes(open, bent(20, 0x20), "DECAP_PASS_NOT_TUNNEL");
    passes(open, bent(21, 0x01), "DECAP_PASS_NOT_TUNNEL");
    passes(open, bent(17, 19), "DECAP_PASS_MALFORMED");
    passes(open, bent(17, 255), "DECAP_PASS_MALFORMED");
    passes(open, bent(34, 0x65), "DECAP_PASS_MALFORMED");
    passes(open, bent(34, 0x44), "DECAP_PASS_MALFORMED");
    // An inner header that is longer than its packet.
    passes(open, bent(34, 0x4f), "DECAP_PASS_MALFORMED");
    passes(open, bent(37, 255), "DECAP_PASS_MALFORMED");
    for (let length = 14; length < expected.length; length += 1) {
      expect(run(open, expected.slice(0, length)).output).toEqual(expected.slice(0, length));
    }
  });

  /** The golden packet of this name, with bytes put in between its outer headers and what is inside. */
  function widened(name: string, at: number, bytes: Uint8Array, changes: [number, number][]): Uint8Array {
    const { expected } = tunnelled.find((each) => each.name === name)!;
    const frame = new Uint8Array(expected.length + bytes.length);
    frame.set(expected.subarray(0, at));
    frame.set(bytes, at);
    frame.set(expected.subarray(at), at + bytes.length);
    for (const [place, value] of changes) frame[place] = value;
    put16(frame, 16, new DataView(expected.buffer, expected.byteOffset).getUint16(16) + bytes.length);
    return frame;
  }

  it("skips a GRE key and a GUE header's private data", () => {
    const strippedOf = (name: string): Uint8Array =>
      run(open, tunnelled.find((each) => each.name === name)!.expected).output;
    const keyed = widened("v4 gre4 udp", 38, Uint8Array.of(1, 2, 3, 4), [[34, 0x20]]);
    expect(run(open, keyed)).toEqual({
      verdict: "DECAP_PASS_STRIPPED", output: strippedOf("v4 gre4 udp"),
    });
    for (const words of [1, 5, 31]) {
      const { expected } = tunnelled.find(({ name }) => name === "v4 gue4 tcp")!;
      const data = new Uint8Array(words * 4).fill(0xab);
      const frame = widened("v4 gue4 tcp", 46, data, [[42, words]]);
      const length = new DataView(expected.buffer, expected.byteOffset).getUint16(38);
      put16(frame, 38, length + data.length);
      expect(run(open, frame)).toEqual({
        verdict: "DECAP_PASS_STRIPPED", output: strippedOf("v4 gue4 tcp"),
      });
      // More private data than the UDP datagram holds.
      put16(frame, 38, 11 + data.length);
      passes(open, frame, "DECAP_PASS_MALFORMED");
    }
  });

  it.each([
    ["a GRE checksum", "v4 gre4 udp", 34, 0x80, "DECAP_PASS_NOT_TUNNEL"],
    ["a GRE sequence number", "v4 gre4 udp", 34, 0x10, "DECAP_PASS_NOT_TUNNEL"],
    ["another version of GRE", "v4 gre4 udp", 35, 0x01, "DECAP_PASS_NOT_TUNNEL"],
    ["GRE with something else inside", "v4 gre4 udp", 36, 0x65, "DECAP_PASS_NOT_TUNNEL"],
    ["GRE with a key that is not there", "v4 gre4 udp", 17, 25, "DECAP_PASS_MALFORMED"],
    ["another UDP port", "v4 gue4 udp", 37, 0xc1, "DECAP_PASS_NOT_TUNNEL"],
    ["UDP longer than IP", "v4 gue4 udp", 38, 0x40, "DECAP_PASS_MALFORMED"],
    ["IPv4 longer than its frame, around UDP that is not", "v4 gue4 udp", 16, 0x10, "DECAP_PASS_MALFORMED"],
    ["IPv6 longer than its frame, around UDP that is not", "v6 gue6 udp", 18, 0x10, "DECAP_PASS_MALFORMED"],
    ["a GUE control message", "v4 gue4 udp", 42, 0x20, "DECAP_PASS_NOT_TUNNEL"],
    ["GUE flags", "v4 gue4 udp", 45, 0x01, "DECAP_PASS_NOT_TUNNEL"],
    ["GUE with something else inside", "v4 gue4 udp", 43, 47, "DECAP_PASS_NOT_TUNNEL"],
    ["another version of GUE", "v4 gue4 udp", 42, 0x80, "DECAP_PASS_NOT_TUNNEL"],
    ["IP that is longer than its UDP", "v4 gue1-4 udp", 45, 0xff, "DECAP_PASS_MALFORMED"],
  ])("leaves %s", (_, name, at, value, verdict) => {
    const frame = Uint8Array.from(tunnelled.find((each) => each.name === name)!.expected);
    frame[at] = value;
    if (verdict === "DECAP_PASS_MALFORMED" && at === 17) frame[34] = 0x20;
    passes(open, frame, verdict);
  });

  it("carries congestion inwards, and only to who can say it (RFC 6040)", () => {
    for (const { name, expected } of tunnelled) {
      if (!name.endsWith(" udp") && !name.endsWith("traffic class")) continue;
      // Not where a tag is: what follows looks for the header right behind the type.
      if (name.includes("-vlan")) continue;
      const frame = Uint8Array.from(expected);
      if (frame[12] === 8) {
        frame[15]! |= 3;
        put16(frame, 24, 0);
        put16(frame, 24, 65535 - residue(frame.subarray(14, 34)));
      } else frame[15]! |= 0x30;
      const { output } = run(open, frame);
      const before = run(open, expected).output;
      const ecn = (bytes: Uint8Array): number =>
        bytes[12] === 8 ? bytes[15]! & 3 : (bytes[15]! >> 4) & 3;
      expect(ecn(output), name).toBe(ecn(before) === 0 ? 0 : 3);
      expect(residuesOf(output).headers, name).toEqual(residuesOf(before).headers);
    }
  });

  it("undoes what random packets become in a tunnel, and never drops what is bent", () => {
    randomised("packets", ({ seed, count }) => {
      const draws = new Draws(seed);
      for (let done = 0; done < count / 10; done += 1) {
        const family = draws.pick([4, 6] as const);
        const frame = frameOf({
          family,
          destination: parseAddress(VIRTUAL_ADDRESSES[family === 4 ? 0 : 1]!)!.bytes,
          protocol: draws.pick([6, 17]),
          source: draws
            .bytes(16)
            .fill(0, 0, family === 4 ? 10 : 0)
            .fill(255, family === 4 ? 10 : 16, family === 4 ? 12 : 16),
          tags: new Array<number>(draws.below(3)).fill(0x8100),
          trafficClass: draws.below(256),
          dontFragment: draws.chance(0.5),
          id: draws.below(65536),
          payload: draws.bytes(draws.below(60)),
          padding: draws.below(10),
          optionBytes: draws.pick([0, 0, 8]),
        });
        const packet = parsePacket(frame);
        if (typeof packet === "string") continue;
        const hop = golden.hops.get(draws.pick([2, 3]))!;
        const outer = draws.pick([4, 6] as const);
        const sent = forwardedByTunnel(frame, packet, hop, {
          source: parseAddress(OUTER[outer === 4 ? 0 : 1]!)!.bytes,
          destination: parseAddress(outer === 4 ? "10.0.0.11" : "fd10::11")!,
          forwarding: draws.pick(["ipip", "gue", "gre"]),
          gue: { port: GUE_PORT, variant: draws.pick([0, 1]) },
          hash: draws.word(),
        });
        const isBent = draws.chance(0.3);
        if (isBent) sent.frame[draws.between(12, sent.frame.length - 1)] = draws.word();
        const { verdict, output } = run(open, sent.frame);
        if (isBent && verdict !== "DECAP_PASS_STRIPPED") expect(output).toEqual(sent.frame);
        else if (isBent) expect(output.length).toBe(frame.length);
        else
          expect({
            verdict,
            same: isAsExpected(output, forwardedByL2(frame, packet, hop)),
          }).toEqual({ verdict: "DECAP_PASS_STRIPPED", same: true });
      }
    });
  });
});
