// What the packet benchmark sends through the XDP program, and through which: configs in the words
// of a user, one frame per verdict. Knows configs, frames and switches; measures nothing.

import { parseConfig } from "../src/config/parse.ts";
import { PointsmanRodata } from "../src/dataplane/xdp/abi.gen.ts";
import { parseAddress } from "../src/model/address.ts";
import { hexText } from "../src/model/hex.ts";
import { compile } from "../src/model/compile.ts";
import type { VerdictName } from "../src/model/decide.ts";
import { schemeOf } from "../src/model/slot.ts";
import { SETTLED, type SlotStates } from "../src/model/slot_states.ts";
import { encodeCid } from "../src/model/quic_lb.ts";
import {
  EMPTY_LEDGER, type BackendHealth, type Destination, type ForwardingTable,
} from "../src/model/table.ts";
import type { Hop } from "../test/support/bpf_world.ts";
import { frameOf, ICMP, mac, TCP, UDP, type FrameSpec } from "../test/support/packets.ts";

export const FORWARDINGS = ["l2", "ipip", "gue", "gre"] as const;
const FORWARDING_SWITCHES = {
  l2: "featureL2", ipip: "featureIpip", gue: "featureGue", gre: "featureGre",
} as const satisfies Readonly<Record<(typeof FORWARDINGS)[number], Switch>>;
export const FAMILIES = [4, 6] as const;
export const TRACKINGS = ["none", "minimal", "full"] as const;
export type Family = (typeof FAMILIES)[number];
export type Switch = keyof PointsmanRodata;

/** How many flows the packets are of: bits of a counter that change the client. */
export const FLOWS = {
  "1 flow": 0,
  "64 K flows": 0xffff,
  "each packet a new flow": 0xffffffff,
} as const;
export type Flows = keyof typeof FLOWS;

/** FRAME_BYTES of packet_bench.bpf.c. */
export const FRAME_BYTES = 80;
/** Of a plane with the usual limits.flows. */
export const FLOWS_MAX = 1_048_576;
export const FEW_FLOWS = 1024;
/** Twice as many as 64 K flows take. */
const NAT_ENTRIES = 262_144;
const BACKENDS = 16;

/** A loaded program and what its maps are filled with. */
export interface WorldSpec {
  readonly key: string;
  readonly text: string;
  readonly switches: readonly Switch[];
  readonly flowsMax: number;
  /** Entries of translated flows, two each; absent: few. */
  readonly natFlowsMax?: number;
  /** Clients that fit, where any are remembered. */
  readonly affinitiesMax?: number;
  /** Of clients, in the regions of its services. */
  readonly regionPrefixes?: number;
  /** Slots that are marked, of a hundred, and whether they are changing; absent: none is. */
  readonly marked?: { readonly percent: number; readonly changing: boolean };
}

export interface Case {
  readonly group: "forwarding" | "tracking" | "affinity" | "regions" | "features" | "quic" | "verdict";
  readonly name: string;
  readonly world: WorldSpec;
  readonly flows: Flows;
  /** The next packet is the next of 64 K clients'; else all ports of one come first. */
  readonly clientsFirst?: boolean;
  readonly verdict: VerdictName;
  readonly family: Family;
  readonly frame: Uint8Array;
}

const VIP = { 4: "203.0.113.10", 6: "2001:db8:ff::10" } as const;
const CLIENT = { 4: "198.51.100.1", 6: "2001:db8:1::1" } as const;

function service(
  name: string, port: number, family: Family, rest: string, backends = BACKENDS,
): string {
  const address = (index: number): string =>
    family === 4 ? `10.0.0.${index + 1}` : `2001:db8:2::${(index + 1).toString(16)}`;
  const list = Array.from({ length: backends }, (_, index) =>
    `      - { name: b${index}, address: "${address(index)}"${rest.includes("quicLb") ? serverIds(index) : ""} }\n`)
    .join("");
  return `  - name: ${name}
    address: "${VIP[family]}"
    port: ${port}
    health: { type: none }
    ${rest.replaceAll("; ", "\n    ")}
    backends:
${list}`;
}

/** One of each length that quicCases() asks for. */
function serverIds(index: number): string {
  const byte = (index + 1).toString(16).padStart(2, "0");
  return `, serverIds: ["${byte.repeat(3)}", "${byte.repeat(8)}", "${byte.repeat(10)}"]`;
}

function configText(services: string, orphan = "keep"): string {
  return `version: 1
instance: bench
dataplane: { mode: xdp, interfaces: [eth0], orphan: { after: 1s, action: ${orphan} } }
services:
${services}`;
}

/** Of IPv4, at port 80. */
export const oneServiceText = (rest: string): string => configText(service("web", 80, 4, rest));

/** The pool `nobody` is down. Throws what the parser says: these configs are ours. */
export function tableOf(text: string): ForwardingTable {
  const parsed = parseConfig("bench", new TextEncoder().encode(text));
  if (!("config" in parsed)) {
    throw new Error(parsed.problems.map(({ path, reason }) => `${path}: ${reason}`).join("\n"));
  }
  const health = new Map<string, BackendHealth>([
    ["nobody/b0", { alive: false, known: true, admission: 0, reason: "", sinceMs: 0 }],
  ]);
  return compile(
    { config: parsed.config, hashSeed: 1n, overrides: [], health, nowMs: 0 },
    { ledger: EMPTY_LEDGER, generation: 0 },
  );
}

const TUNNEL_SOURCE = { 4: "192.0.2.1", 6: "2001:db8:3::1" } as const;
const IPIP = 4;

/** Interface 1 takes the frames of packets.ts alone, as one of a host takes those to it. */
export const LINK_ADDRESSES: ReadonlyMap<number, ReadonlySet<string>> = new Map([[1, new Set([hexText(mac(1))])]]);

/** Interface 1 is where a test run's packets come from; two services have next hops that fail. */
export function hopOf(destination: Destination): Hop {
  const family = destination.address.family;
  return {
    destinationMac: mac(3), sourceMac: mac(1), ifindex: 1,
    mtu: destination.pool === "narrow" ? 40 : 1500,
    resolved: destination.pool !== "unresolved",
    local: false, vlan: 0,
    tunnelSource: addressBytes(TUNNEL_SOURCE[family]),
    tunnelSourceMask: 0,
  };
}

function addressBytes(text: string): Uint8Array {
  const address = parseAddress(text);
  if (address === null) throw new RangeError(`${text} is no address`);
  return address.bytes;
}

export function frame(family: Family, changes: Partial<FrameSpec>): Uint8Array {
  const made = frameOf({
    family, source: addressBytes(CLIENT[family]), destination: addressBytes(VIP[family]),
    protocol: TCP, sourcePort: 0, destinationPort: 80, flags: 0x10, ...changes,
  });
  const padded = new Uint8Array(FRAME_BYTES);
  padded.set(made);
  return padded;
}

/** What a plane has whose services all remember flows in this way. */
const TRACKING_SWITCHES = {
  none: ["featureSample"], minimal: ["featureMinimal", "featureSample"], full: ["featureTracking"],
} as const satisfies Readonly<Record<string, readonly Switch[]>>;

/** Each way to forward with the switches that a plane of one such service has. */
function forwardingCases(): Case[] {
  const ways = FORWARDINGS.flatMap((forwarding) => FAMILIES.flatMap((family) =>
    TRACKINGS.map((tracking) => ({ forwarding, family, tracking }))));
  return ways.flatMap(({ forwarding, family, tracking }) => {
    const rest = `forwarding: ${forwarding}; tracking: ${tracking}`;
    const world: WorldSpec = {
      key: `${forwarding} ${family} ${tracking}`,
      text: configText(service("web", 80, family, rest)),
      switches: [FORWARDING_SWITCHES[forwarding], "ringClassMedium", ...TRACKING_SWITCHES[tracking]],
      flowsMax: tracking === "full" ? FLOWS_MAX : FEW_FLOWS,
    };
    return (Object.keys(FLOWS) as Flows[]).map((flows): Case => ({
      group: "forwarding", name: `${forwarding}, IPv${family}, tracking ${tracking}`, world, flows,
      verdict: "TX_FORWARDED", family, frame: frame(family, {}),
    }));
  });
}

/** Flows of 64 K clients, l2 and IPv4, by what is remembered and how many slots have to do with it. */
function trackingCases(): Case[] {
  const marks = [5, 100].flatMap((percent) => [true, false].map((changing) => ({ percent, changing })));
  const ways = [
    { name: TRACKING_BASE, tracking: "none" as const, marked: undefined },
    { name: "full", tracking: "full" as const, marked: undefined },
    { name: "minimal, settled", tracking: "minimal" as const, marked: undefined },
    ...marks.map((marked) => ({
      name: `minimal, ${marked.percent} % of slots ${marked.changing ? "changing" : "with exceptions"}`,
      tracking: "minimal" as const, marked,
    })),
  ];
  return ways.map(({ name, tracking, marked }) => ({
    group: "tracking", name, flows: "64 K flows", verdict: "TX_FORWARDED", family: 4, frame: frame(4, {}),
    world: {
      key: `tracking ${name}`, text: oneServiceText(`forwarding: l2; tracking: ${tracking}`),
      switches: ["featureL2", "ringClassMedium", ...TRACKING_SWITCHES[tracking]],
      flowsMax: FLOWS_MAX, ...(marked === undefined ? {} : { marked }),
    },
  }));
}

/** What the others of their group are measured against. */
export const TRACKING_BASE = "none";

export const [AFFINITY_BASE, AFFINITY] = ["not remembered", "remembered"] as const;

/** Of 64 K clients, who all fit: what is new of them looks its client up, and what is known renews it now and then. */
function clientCases(): Case[] {
  return [AFFINITY_BASE, AFFINITY].flatMap((name) => {
    const rest = `forwarding: l2; tracking: full${name === AFFINITY ? "; affinityTimeout: 1h" : ""}`;
    const world: WorldSpec = {
      key: `affinity ${name}`, text: oneServiceText(rest),
      switches: ["featureL2", "ringClassMedium", "featureTracking", ...(name === AFFINITY ? ["featureAffinity"] as const : [])],
      flowsMax: FLOWS_MAX, affinitiesMax: 131_072,
    };
    return (["64 K flows", "each packet a new flow"] as const).map((flows): Case => ({
      group: "affinity", name, world, flows, clientsFirst: true, verdict: "TX_FORWARDED", family: 4, frame: frame(4, {}),
    }));
  });
}

/** The table with that many slots marked, evenly over the ring. */
export function withMarks(table: ForwardingTable, marked: WorldSpec["marked"]): ForwardingTable {
  if (marked === undefined) return table;
  const services = table.services.map((service) => {
    const { size, slots } = service.ring;
    const exceptional = Uint8Array.from({ length: size }, (_, slot) => (slot * 37 % 100 < marked.percent ? 1 : 0));
    // The untracked owner is the owner: where packets go does not depend on what is remembered.
    const owners = slots.map((id, slot) => (exceptional[slot] === 1 ? id : 0));
    const predecessor = { scheme: schemeOf(service), owners, key: "" };
    const states: SlotStates = marked.changing
      ? { ...SETTLED, exceptional, predecessor, changingUntilNs: 1n << 62n } : { ...SETTLED, exceptional };
    return { ...service, states };
  });
  return { ...table, services };
}

const ALL = Object.keys(PointsmanRodata.offsets) as Switch[];
const allBut = (...names: Switch[]): Switch[] => ALL.filter((name) => !names.includes(name));

/** The same packet, of l2 without tracking, through programs with more and more switched on. */
function featureCases(): Case[] {
  const text = oneServiceText("forwarding: l2; tracking: none");
  const wildcard = text.replace(VIP[4], "203.0.113.0/28").replace("port: 80", "port: any");
  const least: readonly Switch[] = ["featureL2", "ringClassMedium"];
  const sets: readonly (readonly [string, readonly Switch[], string?])[] = [
    ["l2 alone", least],
    ["l2, source hash", [...least, "featureSourceHash"]],
    ["l2, orphan action", [...least, "featureOrphan"]],
    ["l2, policy", [...least, "featurePolicy"]],
    ["l2, tracking full", [...least, "featureTracking"]],
    ["l2, tracking full, affinityTimeout", [...least, "featureTracking", "featureAffinity"]],
    ["l2, tracking minimal", [...least, "featureMinimal"]],
    ["l2, one flow in 64 looked at", [...least, "featureSample"]],
    ["l2, wildcard services beside an exact one", [...least, "featureWildcard"]],
    ["l2, a prefix with any port", [...least, "featureWildcard"], wildcard],
    ["l2 and ipip", [...least, "featureIpip"]],
    ["l2 and every tunnel", [...least, "featureIpip", "featureGue", "featureGre"]],
    ["l2, connection IDs", [...least, "featureQuicLb"]],
    ["l2, transmit by redirect", [...least, "transmitByRedirect"]],
    ["everything but redirect", allBut("transmitByRedirect")],
  ];
  return sets.map(([name, switches, own]) => ({
    group: "features", name, flows: "1 flow", verdict: "TX_FORWARDED", family: 4,
    frame: frame(4, {}),
    world: { key: `features ${name}`, text: own ?? text, switches, flowsMax: FEW_FLOWS },
  }));
}

const QUIC_KEY = "8f95f09245765f80256934e50c66207f";
const QUIC_WAYS = [
  ["plaintext", 3, 4, false],
  ["one pass", 8, 8, true],
  ["four-pass encoding, three passes", 3, 4, true],
  ["four-pass encoding, four passes", 10, 5, true],
] as const;

/** What reading a connection ID costs, next to the same packet of a service that reads none. */
function quicCases(): Case[] {
  const configs = QUIC_WAYS.map(([, serverIdBytes, nonceBytes, hasKey], id) =>
    `{ id: ${id}, serverIdBytes: ${serverIdBytes}, nonceBytes: ${nonceBytes}`
    + `${hasKey ? `, key: "${QUIC_KEY}"` : ""} }`);
  const way = "protocol: udp; forwarding: l2; tracking: none";
  const text = configText(service("quic", 443, 4, `${way}; quicLb: { configs: [${configs.join(", ")}] }`)
    + service("plain", 444, 4, way));
  const table = tableOf(text);
  const { quicLb } = table.services[0]!;
  const spec: WorldSpec = {
    key: "quic", text, switches: ["featureL2", "ringClassMedium", "featureQuicLb"], flowsMax: FEW_FLOWS,
  };
  const packet = (name: string, port: number, cid: Uint8Array): Case => ({
    group: "quic", name, world: spec, flows: "1 flow", verdict: "TX_FORWARDED", family: 4,
    frame: frame(4, {
      protocol: UDP, destinationPort: port, payload: Uint8Array.of(0x41, ...cid, ...new Uint8Array(30 - cid.length)),
    }),
  });
  const ids = QUIC_WAYS.map(([name, serverIdBytes, nonceBytes], id) => packet(name, 443, encodeCid(
    quicLb!.configs.get(id)!, new Uint8Array(serverIdBytes).fill(1), new Uint8Array(nonceBytes).fill(9), 0)));
  return [
    packet("no quicLb", 444, new Uint8Array(20)), ...ids,
    packet("no config: by ring", 443, new Uint8Array(20).fill(0xff)),
  ];
}

const arp = (): Uint8Array => {
  const bytes = frame(4, {});
  bytes.set([0x08, 0x06], 12);
  return bytes;
};

const malformed = (): Uint8Array => {
  const bytes = frame(4, {});
  bytes[14] = 0x44;
  return bytes;
};

const truncated = (): Uint8Array => {
  const bytes = frame(4, {});
  // Total length: four bytes are missing at the end of the TCP header.
  bytes.set([0, 36], 16);
  return bytes;
};

/** What a router quotes of a packet that the backend sent to the client: eight bytes of TCP. */
const quote = (): Uint8Array => frameOf({
  source: addressBytes(VIP[4]), destination: addressBytes(CLIENT[4]), protocol: TCP,
  sourcePort: 80, destinationPort: 0,
}).slice(14, 42);

/** What a host quotes of a tunnel's packet to the only backend of "narrow": its outer header and eight bytes. */
const tunnelQuote = (): Uint8Array => frameOf({
  source: addressBytes(TUNNEL_SOURCE[4]), destination: addressBytes("10.0.0.1"), protocol: IPIP, payload: new Uint8Array(8),
}).slice(14, 42);

/** One case per verdict that a small frame can reach, through a program with everything on. */
function verdictCases(): Case[] {
  const rest = "forwarding: l2; tracking: none";
  const services = [
    service("web", 80, 4, rest),
    service("denied", 81, 4, `${rest}; policy: { deny: ["198.51.100.0/24"] }`),
    service("nobody", 82, 4, rest, 1),
    service("unresolved", 83, 4, rest, 1),
    service("narrow", 84, 4, "forwarding: ipip; tracking: none", 1),
  ].join("");
  const world = (orphan: string): WorldSpec => ({
    key: `verdicts ${orphan}`, text: configText(services, orphan),
    switches: allBut("transmitByRedirect"), flowsMax: FEW_FLOWS,
  });
  const keep = world("keep");
  const frames: readonly (readonly [VerdictName, Uint8Array, WorldSpec])[] = [
    ["PASS_NOT_IP", arp(), keep],
    ["PASS_MALFORMED", malformed(), keep],
    ["PASS_OTHER_HOST", frame(4, { destinationMac: mac(9) }), keep],
    ["PASS_NOT_OURS", frame(4, { destinationPort: 9 }), keep],
    ["PASS_TRUNCATED", truncated(), keep],
    ["PASS_FRAGMENT", frame(4, { fragmentOffset: 1, protocol: UDP }), keep],
    ["PASS_ICMP", frame(4, { protocol: ICMP, flags: 3 }), keep],
    ["PASS_PROTOCOL", frame(4, { protocol: 47 }), keep],
    ["PASS_ORPHANED", frame(4, {}), world("pass")],
    ["TX_FORWARDED", frame(4, {}), keep],
    ["TX_ECHO_REPLY", frame(4, { protocol: ICMP, flags: 8 }), keep],
    ["TX_ICMP_ERROR", frame(4, { protocol: ICMP, flags: 3, code: 4, payload: quote() }), keep],
    ["DROP_DENIED", frame(4, { destinationPort: 81 }), keep],
    ["DROP_ORPHANED", frame(4, {}), world("drop")],
    ["DROP_TTL_EXPIRED", frame(4, { ttl: 1 }), keep],
    ["DROP_NO_BACKEND", frame(4, { destinationPort: 82 }), keep],
    ["DROP_NO_NEIGHBOUR", frame(4, { destinationPort: 83 }), keep],
    ["DROP_TOO_BIG", frame(4, { destinationPort: 84 }), keep],
    ["DROP_TUNNEL_ERROR", frame(4, {
      destination: addressBytes(TUNNEL_SOURCE[4]), protocol: ICMP, flags: 3, code: 2, payload: tunnelQuote(),
    }), keep],
  ];
  return frames.map(([verdict, bytes, spec]) => ({
    group: "verdict", name: verdict, world: spec, flows: "1 flow", verdict, family: 4, frame: bytes,
  }));
}

/** Translated flows are always remembered, and no more of them than there are ports. */
function natCases(): Case[] {
  return (["nat", "fullnat"] as const).flatMap((forwarding) => FAMILIES.flatMap((family) => {
    const world: WorldSpec = {
      key: `${forwarding} ${family}`, text: configText(service("web", 80, family, `forwarding: ${forwarding}`)),
      switches: ["featureNat", "ringClassMedium"], flowsMax: FEW_FLOWS, natFlowsMax: NAT_ENTRIES,
    };
    return (["1 flow", "64 K flows"] as const).map((flows): Case => ({
      group: "forwarding", name: `${forwarding}, IPv${family}`, world, flows,
      verdict: "TX_FORWARDED", family, frame: frame(family, {}),
    }));
  }));
}

export function packetCases(): Case[] {
  return [...forwardingCases(), ...natCases(), ...trackingCases(), ...clientCases(), ...featureCases(), ...quicCases(), ...verdictCases()];
}
