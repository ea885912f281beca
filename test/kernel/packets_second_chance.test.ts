// The second chance on a backend: with real sockets and routes in a namespace, what becomes of a tunnel packet
// that names who else may have its flow.

import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { parseAddress } from "../../src/model/address.ts";
import { parsePacket, type ParsedPacket } from "../../src/model/packet.ts";
import { runInSync } from "../../scripts/namespaces.ts";
import type { Hop } from "../support/bpf_world.ts";
import { residue } from "../support/checksums.ts";
import { DecapRun, GUE_PORT, type DecapOutcome } from "../support/decap_run.ts";
import { ADDON_PATH, BPF_DIRECTORY, describeKernel, KERNEL } from "../support/kernel.ts";
import { frameOf, ICMP, ICMPV6, put16, TCP, UDP, type FrameSpec } from "../support/packets.ts";
import { forwardedByL2, forwardedByTunnel, type Tunnel } from "../support/rewritten.ts";
import { inNamespace, until, XDP_PASS, XDP_TX } from "./fixtures/native_fixture.ts";
import { BACKEND, CLIENT, GHOST, NEIGHBOUR, PORT, SocketWorld, UNKNOWN, VIRTUAL } from "./fixtures/socket_world.ts";

const BALANCER = { 4: "198.18.9.5", 6: "2001:db8:9::5" } as const;
const [SYN, RST, ACK] = [2, 4, 16];
const [OPEN_PORT, ENDED_PORT, GHOST_PORT, COOKIE_PORT, NOBODY_PORT] = [5001, 5002, 5003, 5004, 5005];

type Family = 4 | 6;
type Named = NonNullable<Tunnel["alternates"]>;
interface Way { readonly forwarding: "gue" | "gre"; readonly inner: Family; readonly outer: Family }
/** GRE's key holds an IPv4 address. */
const WAYS: readonly Way[] = [
  { forwarding: "gue", inner: 4, outer: 4 }, { forwarding: "gue", inner: 6, outer: 4 },
  { forwarding: "gue", inner: 4, outer: 6 }, { forwarding: "gue", inner: 6, outer: 6 },
  { forwarding: "gre", inner: 4, outer: 4 }, { forwarding: "gre", inner: 6, outer: 4 },
];

const bytesOf = (text: string): Uint8Array => parseAddress(text)!.bytes;
const macOf = (text: string): number[] => text.split(":").map((part) => parseInt(part, 16));

describeKernel("the second chance", [...KERNEL, "tool:ethtool", "tool:perl"], () => {
  let world: SocketWorld;
  let decap: DecapRun;
  let redirecting: DecapRun;
  let off: DecapRun;
  const cookies = { 4: 0, 6: 0 };

  beforeAll(async () => {
    world = new SocketWorld("chance");
    const settings = { decapSecondChance: true, decapIfindex: world.ifindex };
    const open = (switches: object): DecapRun => {
      const run = new DecapRun(ADDON_PATH, join(BPF_DIRECTORY, "decap.bpf.o"), { ...settings, ...switches });
      for (const family of [4, 6] as const) {
        run.addSource(BALANCER[family]);
        run.addLocal(BACKEND[family]);
      }
      return run;
    };
    decap = open({});
    redirecting = open({ decapTransmitsByRedirect: true });
    off = open({ decapSecondChance: false });
    await world.serve();
    for (const family of [4, 6] as const) {
      await world.connect(family, OPEN_PORT, false);
      await world.connect(family, ENDED_PORT, true);
      await world.shake(frameFrom(family, GHOST_PORT, SYN));
    }
    await until("the backend waits for the end of both", () =>
      runInSync(world.backend, "ss", ["-Htan", "state", "time-wait"]).stdout.trim().split("\n").length === 2);
    runInSync(world.backend, "sysctl", ["-qw", "net.ipv4.tcp_syncookies=2"]);
    for (const family of [4, 6] as const) cookies[family] = await world.shake(frameFrom(family, COOKIE_PORT, SYN));
  }, 60_000);
  afterAll(() => {
    for (const run of [decap, redirecting, off]) run.close();
    world.close();
  });

  /** From the ghost, as it goes over the backend's link. */
  function frameFrom(family: Family, sourcePort: number, flags: number, changes: Partial<FrameSpec> = {}): Uint8Array {
    return frameOf({
      family, protocol: TCP, source: bytesOf(GHOST[family]), sourcePort, destination: bytesOf(VIRTUAL[family]), destinationPort: PORT,
      flags, destinationMac: Uint8Array.from(macOf(world.macs.backend)), sourceMac: Uint8Array.from(macOf(world.macs.client)), ...changes,
    });
  }

  interface Wrapped { readonly frame: Uint8Array; readonly inner: Uint8Array }

  /** As the balancer sends it. Its alternates: a neighbour, unless told. */
  function wrap({ forwarding, inner, outer }: Way, frame: Uint8Array, alternates: Named | null = named(NEIGHBOUR[outer])): Wrapped {
    const packet = parsePacket(frame) as ParsedPacket;
    const hop: Hop = {
      destinationMac: Uint8Array.from(macOf(world.macs.backend)), sourceMac: Uint8Array.from(macOf(world.macs.client)),
      tunnelSource: bytesOf(BALANCER[outer]), tunnelSourceMask: 0, ifindex: 1, mtu: 0, resolved: true, local: false, vlan: 0,
    };
    const sent = forwardedByTunnel(frame, packet, hop, {
      source: bytesOf(BALANCER[outer]), destination: parseAddress(BACKEND[outer])!, forwarding,
      gue: { port: GUE_PORT, variant: 0 }, hash: 1, ...alternates === null ? {} : { alternates },
    });
    if (outer === 4 && packet.ipOffset === 14) sumOuter(sent.frame);
    const stripped = forwardedByL2(frame, packet, hop).frame;
    if (inner === 4) stripped.set(sent.frame.subarray(sent.frame.length - stripped.length + 24, sent.frame.length - stripped.length + 26), 24);
    return { frame: sent.frame, inner: stripped };
  }

  function named(...addresses: string[]): Named {
    return { addresses: addresses.map((address) => parseAddress(address)!), asked: 0 };
  }

  function sumOuter(frame: Uint8Array): void {
    put16(frame, 24, 0);
    put16(frame, 24, 65535 - residue(frame.subarray(14, 34)));
  }

  function run(frame: Uint8Array, by = decap): DecapOutcome {
    return inNamespace(world.backend, () => by.run(frame));
  }

  function delivers(wrapped: Wrapped, verdict: string, by = decap): void {
    const outcome = run(wrapped.frame, by);
    expect({ verdict: outcome.verdict, action: outcome.action }).toEqual({ verdict, action: XDP_PASS });
    expect(outcome.output).toEqual(wrapped.inner);
  }

  /** The frame as it goes on: to the next alternate, one hop older, and that one is asked now. */
  function ledOn(way: Way, { frame }: Wrapped, to: string, mac: string | null): Uint8Array {
    const expected = Uint8Array.from(frame);
    const isIpv4 = way.outer === 4;
    expected.set(bytesOf(to).subarray(isIpv4 ? 12 : 0), isIpv4 ? 30 : 38);
    if (way.forwarding === "gre") expected.fill(0, 38, 42);
    else expected[14 + (isIpv4 ? 20 : 40) + 8 + 4 + 2]! += 1;
    if (mac !== null) {
      expected[isIpv4 ? 22 : 21]! -= 1;
      expected.set(macOf(mac), 0);
      expected.set(macOf(world.macs.backend), 6);
    }
    if (isIpv4) sumOuter(expected);
    return expected;
  }

  function goesOn(way: Way, wrapped: Wrapped, to: string = NEIGHBOUR[way.outer]): void {
    expect(run(wrapped.frame)).toEqual({
      verdict: "DECAP_TX_ALTERNATE", action: XDP_TX, output: ledOn(way, wrapped, to, NEIGHBOUR.mac),
    });
  }

  describe.each(WAYS)("$forwarding with IPv$inner in IPv$outer", (way) => {
    const { inner, outer } = way;
    const from = (address: string, port: number, flags: number): Wrapped =>
      wrap(way, frameFrom(inner, port, flags, { source: bytesOf(address) }));

    it("delivers what a connection of this host's is for: open, asked for, and waiting for its end", () => {
      delivers(from(CLIENT[inner], OPEN_PORT, ACK), "DECAP_PASS_OWNED");
      delivers(from(CLIENT[inner], OPEN_PORT, RST), "DECAP_PASS_OWNED");
      delivers(from(GHOST[inner], GHOST_PORT, ACK), "DECAP_PASS_OWNED");
      delivers(from(CLIENT[inner], ENDED_PORT, ACK), "DECAP_PASS_OWNED");
      delivers(from(CLIENT[inner], ENDED_PORT, SYN), "DECAP_PASS_OWNED");
    });

    it("has a listener open connections, and nothing else", () => {
      delivers(from(GHOST[inner], NOBODY_PORT, SYN), "DECAP_PASS_OWNED");
      for (const flags of [ACK, RST, SYN | ACK]) goesOn(way, from(GHOST[inner], NOBODY_PORT, flags));
      goesOn(way, wrap(way, frameFrom(inner, NOBODY_PORT, SYN, { destinationPort: PORT + 1 })));
    });

    it("delivers the packet that brings back a SYN cookie, and no other number", () => {
      const answer = (acknowledged: number): Wrapped => {
        const frame = frameFrom(inner, COOKIE_PORT, ACK);
        const view = new DataView(frame.buffer, 14 + (inner === 4 ? 20 : 40));
        view.setUint32(4, 1);
        view.setUint32(8, acknowledged);
        return wrap(way, frame);
      };
      delivers(answer((cookies[inner] + 1) >>> 0), "DECAP_PASS_OWNED");
      // The lowest bits say a size of segments: several are right.
      goesOn(way, answer((cookies[inner] + (1 << 20)) >>> 0));
    });

    it("delivers what nobody is left for, whoever has it", () => {
      const frame = frameFrom(inner, NOBODY_PORT, ACK);
      const { addresses } = named(NEIGHBOUR[outer]);
      delivers(wrap(way, frame, { addresses, asked: 1 }), "DECAP_PASS_LAST");
      delivers(wrap(way, frame, null), "DECAP_PASS_STRIPPED");
    });

    it("has an error about a connection follow it", () => {
      const error = (address: string, port: number): Wrapped => wrap(way, frameFrom(inner, 0, inner === 4 ? 3 : 1, {
        protocol: inner === 4 ? ICMP : ICMPV6, source: bytesOf(UNKNOWN[inner]),
        // What the backend had sent, without its link-layer header.
        payload: frameOf({
          family: inner, protocol: TCP, source: bytesOf(VIRTUAL[inner]), sourcePort: PORT, destination: bytesOf(address),
          destinationPort: port, flags: ACK,
        }).subarray(14),
      }));
      delivers(error(CLIENT[inner], OPEN_PORT), "DECAP_PASS_OWNED");
      goesOn(way, error(CLIENT[inner], NOBODY_PORT));
      // About a packet that another address had sent.
      const foreign = frameFrom(inner, 0, inner === 4 ? 3 : 1, {
        protocol: inner === 4 ? ICMP : ICMPV6, payload: frameFrom(inner, NOBODY_PORT, ACK).subarray(14),
      });
      delivers(wrap(way, foreign), "DECAP_PASS_STRIPPED");
    });

    it("delivers datagrams, fragments and other protocols: no socket tells whose they are", () => {
      delivers(wrap(way, frameFrom(inner, NOBODY_PORT, 0, { protocol: UDP })), "DECAP_PASS_STRIPPED");
      delivers(wrap(way, frameFrom(inner, NOBODY_PORT, 0, { protocol: 132 })), "DECAP_PASS_STRIPPED");
      const cut = inner === 4 ? { more: true, dontFragment: false }
        : { extensions: [{ type: 44, length: 8, segmentsLeft: 0, fragment: { offset: 0, more: true } }] };
      delivers(wrap(way, frameFrom(inner, NOBODY_PORT, ACK, cut)), "DECAP_PASS_STRIPPED");
    });

    it("delivers where there is no way on: no hop left, no route, a tag, or no forwarding", () => {
      const lost = from(GHOST[inner], NOBODY_PORT, ACK);
      const old = { ...lost, frame: Uint8Array.from(lost.frame) };
      old.frame[outer === 4 ? 22 : 21] = 1;
      delivers(old, "DECAP_PASS_NO_WAY");
      for (const address of [outer === 4 ? "192.0.2.1" : "2001:db8:ffff::1", BACKEND[outer]])
        delivers(wrap(way, frameFrom(inner, NOBODY_PORT, ACK), named(address)), "DECAP_PASS_NO_WAY");
      expect(run(wrap(way, frameFrom(inner, NOBODY_PORT, ACK, { tags: [0x8100] })).frame).verdict).toBe("DECAP_PASS_NO_WAY");
      world.forward(false);
      try { delivers(lost, "DECAP_PASS_NO_WAY"); } finally { world.forward(true); }
    });

    it("leaves it to the kernel to find a neighbour, and to count that hop", () => {
      const wrapped = wrap(way, frameFrom(inner, NOBODY_PORT, ACK), named(UNKNOWN[outer]));
      expect(run(wrapped.frame)).toEqual({
        verdict: "DECAP_PASS_ALTERNATE", action: XDP_PASS, output: ledOn(way, wrapped, UNKNOWN[outer], null),
      });
    });

    it("is for the balancers' packets alone, and for hosts that want it", () => {
      const wrapped = from(GHOST[inner], NOBODY_PORT, ACK);
      delivers(wrapped, "DECAP_PASS_STRIPPED", off);
      const forged = { ...wrapped, frame: Uint8Array.from(wrapped.frame) };
      forged.frame[outer === 4 ? 29 : 37]! += 1;
      delivers(forged, "DECAP_PASS_STRIPPED");
    });
  });

  it("asks one after the other, four at most", () => {
    const way = WAYS[0]!;
    const frame = frameFrom(4, NOBODY_PORT, ACK);
    const list = [UNKNOWN[4], UNKNOWN[4], UNKNOWN[4], NEIGHBOUR[4]];
    const { addresses } = named(...list);
    goesOn(way, wrap(way, frame, { addresses, asked: 3 }));
    delivers(wrap(way, frame, { addresses, asked: 4 }), "DECAP_PASS_LAST");
    delivers(wrap(way, frame, named(...list, NEIGHBOUR[4])), "DECAP_PASS_STRIPPED");
  });

  it("skips private data that is somebody else's", () => {
    const way = WAYS[0]!;
    for (const [at, value] of [[0, 0x50], [1, 2], [2, 2], [3, 1]] as const) {
      const wrapped = wrap(way, frameFrom(4, NOBODY_PORT, ACK));
      wrapped.frame[46 + at] = value;
      delivers(wrapped, "DECAP_PASS_STRIPPED");
    }
  });

  it("redirects where a veth's peer takes nothing else", () => {
    const way = WAYS[0]!;
    const { verdict, action } = run(wrap(way, frameFrom(4, NOBODY_PORT, ACK)).frame, redirecting);
    expect({ verdict, action }).toEqual({ verdict: "DECAP_TX_ALTERNATE", action: 4 });
  });
});
