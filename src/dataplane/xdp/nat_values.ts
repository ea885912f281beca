// Translated flows and their settings as the bytes of bpf/abi.h, and back. Pure. Knows no map.

import { addressFromBytes, type Address } from "../../model/address.ts";
import { NAT_SOURCES_MAX, type NatFlow, type NatTable, type NatTimeouts } from "../../model/nat.ts";
import type { FlowTuple } from "../../model/packet.ts";
import { FlowKey, NatFlags, NatFlow as NatFlowBytes, NatSourcesAt, type Settings } from "./abi.gen.ts";

/** The settings that hold times. */
type TimeField = "natSynNs" | "natEstablishedNs" | "natFinNs" | "natRstNs" | "natUdpNs";

const NS_PER_MS = 1_000_000n;
const TIMES = {
  natSynNs: "synMs", natEstablishedNs: "establishedMs", natFinNs: "finMs", natRstNs: "rstMs",
  natUdpNs: "udpMs",
} as const satisfies Readonly<Record<TimeField, keyof NatTimeouts>>;
const TIME_FIELDS = Object.keys(TIMES) as TimeField[];

export function natTimes(timeouts: NatTimeouts): [TimeField, bigint][] {
  return TIME_FIELDS.map((field) => [field, BigInt(timeouts[TIMES[field]]) * NS_PER_MS]);
}

/** settings.nat_ports: all of it in one store. */
export function natPortsWord({ ports, sources }: NatTable): Settings["natPorts"] {
  return BigInt(ports.first) | (BigInt(ports.count) << 16n)
    | (BigInt(sources.ipv4.length) << 32n) | (BigInt(sources.ipv6.length) << 40n);
}

export function natSourceElements({ sources }: NatTable): { readonly index: number; readonly address: Uint8Array }[] {
  const elements = (addresses: readonly Address[], from: number) =>
    addresses.map(({ bytes }, at) => ({ index: from + at, address: bytes }));
  return [
    ...elements(sources.ipv4, NatSourcesAt.NAT_SOURCES_IPV4),
    ...elements(sources.ipv6, NatSourcesAt.NAT_SOURCES_IPV6),
  ];
}

/** What the kernel holds of it. Null: it was never written. */
export function natTableOf({ ports, flowsMax, time, source }: {
  readonly ports: bigint;
  readonly flowsMax: number;
  readonly time: (field: TimeField) => bigint;
  readonly source: (index: number) => Uint8Array;
}): NatTable | null {
  const bits = (from: bigint, count: number): number => Number(BigInt.asUintN(count, ports >> from));
  if (bits(16n, 16) === 0) return null;
  const addresses = (count: number, from: number): Address[] =>
    Array.from({ length: Math.min(count, NAT_SOURCES_MAX) }, (_, at) => addressFromBytes(source(from + at)));
  const ms = (field: TimeField): number => Number(time(field) / NS_PER_MS);
  return {
    ports: { first: bits(0n, 16), count: bits(16n, 16) },
    sources: {
      ipv4: addresses(bits(32n, 8), NatSourcesAt.NAT_SOURCES_IPV4),
      ipv6: addresses(bits(40n, 8), NatSourcesAt.NAT_SOURCES_IPV6),
    },
    timeouts: {
      synMs: ms("natSynNs"), establishedMs: ms("natEstablishedNs"), finMs: ms("natFinNs"),
      rstMs: ms("natRstNs"), udpMs: ms("natUdpNs"),
    },
    flowsMax,
  };
}

/** The room is another step's: a program with a larger table. */
export function isSameNat(a: NatTable | null, b: NatTable): boolean {
  const sources = natSourceElements(b);
  return a !== null && natPortsWord(a) === natPortsWord(b)
    && TIME_FIELDS.every((field) => a.timeouts[TIMES[field]] === b.timeouts[TIMES[field]])
    && natSourceElements(a).every(({ address }, at) =>
      addressFromBytes(address).text === addressFromBytes(sources[at]!.address).text);
}

function flowKey({ source, sourcePort, destination, destinationPort, protocol }: FlowTuple): FlowKey {
  return { service: { address: destination, port: destinationPort, protocol }, source, sourcePort };
}

export function encodeFlowKey(tuple: FlowTuple): Uint8Array {
  return FlowKey.encode(flowKey(tuple));
}

export function decodeFlowKey(bytes: Uint8Array): FlowTuple {
  return flowTuple(FlowKey.decode(bytes));
}

function flowTuple({ service: { address, port, protocol }, source, sourcePort }: FlowKey): FlowTuple {
  return { source, sourcePort, destination: address, destinationPort: port, protocol };
}

/** Of two. */
const TAGS_BYTES = 8;

export function encodeNatFlow(flow: NatFlow): Uint8Array {
  return NatFlowBytes.encode({
    lastSeenNs: flow.lastSeenNs,
    other: flowKey(flow.other),
    destination: flow.destination, generation: flow.generation, service: flow.service,
    clientIfindex: flow.way.ifindex, clientMacs: Uint8Array.of(...flow.way.clientMac, ...flow.way.ownMac),
    clientTagBytes: flow.way.tags.length,
    clientTags: Uint8Array.from({ length: TAGS_BYTES }, (_, at) => flow.way.tags[at] ?? 0),
    flags: (flow.fin ? NatFlags.NAT_FIN : 0) | (flow.rst ? NatFlags.NAT_RST : 0)
      | (flow.answered ? NatFlags.NAT_ANSWERED : 0) | (flow.reply ? NatFlags.NAT_REPLY : 0),
  });
}

export function decodeNatFlow(bytes: Uint8Array): NatFlow {
  const { lastSeenNs, other, destination, generation, service, clientIfindex, clientMacs, flags, clientTags, clientTagBytes } =
    NatFlowBytes.decode(bytes);
  return {
    lastSeenNs, other: flowTuple(other), destination, generation, service,
    way: {
      ifindex: clientIfindex, clientMac: clientMacs.slice(0, 6), ownMac: clientMacs.slice(6),
      tags: clientTags.slice(0, clientTagBytes),
    },
    fin: (flags & NatFlags.NAT_FIN) !== 0, rst: (flags & NatFlags.NAT_RST) !== 0,
    answered: (flags & NatFlags.NAT_ANSWERED) !== 0, reply: (flags & NatFlags.NAT_REPLY) !== 0,
  };
}
