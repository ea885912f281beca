// Translated flows (RFC 3022): which source a new one tries, in which order, and when an old one is
// over. Pure. Knows no packet and no map; bpf/nat.h is its twin.

import type { Address } from "./address.ts";
import type { Forwarding } from "./config.ts";
import { slotOf } from "./flow_hash.ts";
import type { FlowTuple } from "./packet.ts";
import type { PortRange } from "./service_address.ts";

/** Whether packets get other addresses, and answers come back this way. */
export function translates(forwarding: Forwarding | undefined): forwarding is "nat" | "fullnat" {
  return forwarding === "nat" || forwarding === "fullnat";
}

/** How long a translated flow stays without a packet in either direction, in milliseconds. */
export interface NatTimeouts {
  /** Before the backend answered, and the client that. */
  readonly synMs: number;
  readonly establishedMs: number;
  /** After a FIN of either side. */
  readonly finMs: number;
  /** After an RST of either side. */
  readonly rstMs: number;
  readonly udpMs: number;
}

/** With shorter timeouts than this, flows that fail may be forgotten before anybody has counted them. */
export const NAT_KEPT_MS = 5_000;

/** What the config says of translated sources. */
export interface NatConfig {
  /** Of fullnat, of both families; none of a family: this host's own address towards the backend. */
  readonly sources: readonly Address[];
  /** All nodes' together. */
  readonly ports: PortRange;
  /** 0…nodes - 1. */
  readonly node: number;
  readonly nodes: number;
  readonly timeouts: NatTimeouts;
}

/** What of that a table has. */
export interface NatTable {
  /** This node's own ports: `count` of them from `first` on. */
  readonly ports: { readonly first: number; readonly count: number };
  readonly sources: { readonly ipv4: readonly Address[]; readonly ipv6: readonly Address[] };
  readonly timeouts: NatTimeouts;
  /** Flows under way at once. */
  readonly flowsMax: number;
}

/** Of a table in which nothing is translated. */
export const NO_NAT: NatTable = {
  ports: { first: 0, count: 0 }, sources: { ipv4: [], ipv6: [] }, flowsMax: 0,
  timeouts: { synMs: 0, establishedMs: 0, finMs: 0, rstMs: 0, udpMs: 0 },
};

/** Sources of one family. */
export const NAT_SOURCES_MAX = 16;
/** Sources that one flow tries. */
export const NAT_PROBES = 32;
/** 2^32 over the golden ratio: multiples of it lie far apart (Knuth, TAOCP 3, 6.4). */
const PROBE_STEP = 0x9e37_79b1;

/** This node's part of the ports: nodes never meet, whatever each has under way. */
export function natTable(config: NatConfig, flowsMax: number): NatTable {
  const { ports, node, nodes, sources, timeouts } = config;
  const count = Math.floor((ports.to - ports.from + 1) / nodes);
  const of = (family: 4 | 6): Address[] => sources.filter((address) => address.family === family);
  return {
    ports: { first: ports.from + node * count, count },
    sources: { ipv4: of(4), ipv6: of(6) },
    timeouts, flowsMax,
  };
}

/** Where the backend sees a flow come from. */
export interface NatSource {
  readonly address: Uint8Array;
  readonly port: number;
}

export interface SourceWanted {
  /** Of the flow's 5-tuple. */
  readonly hash: number;
  /** The client, if its address and, where possible, its port are kept; null: they are not. */
  readonly client: NatSource | null;
  /** Of the backend's address. */
  readonly family: 4 | 6;
  /** This host's own address towards the backend; null: none is known. */
  readonly ownAddress: Uint8Array | null;
}

/** The source that a flow tries as its number `probe`, 0…NAT_PROBES - 1; null: there is none. */
export function natSource(table: NatTable, wanted: SourceWanted, probe: number): NatSource | null {
  const { client, family, ownAddress } = wanted;
  if (client !== null && probe === 0) return client;
  const { first, count } = table.ports;
  if (count === 0) return null;
  const hash = (wanted.hash + Math.imul(probe, PROBE_STEP)) >>> 0;
  const sources = family === 4 ? table.sources.ipv4 : table.sources.ipv6;
  const addresses = client === null && sources.length > 0 ? sources.length : 1;
  // The whole part of the product is the address, the rest says the port.
  const spread = BigInt(hash) * BigInt(addresses);
  const port = first + slotOf(Number(spread & 0xffff_ffffn), count);
  if (client !== null) return { address: client.address, port };
  const address = sources[Number(spread >> 32n)]?.bytes ?? ownAddress;
  return address === null ? null : { address, port };
}

/** The way by which a client's packets come, which is the way back. */
export interface ClientWay {
  readonly ifindex: number;
  /** Six bytes each. */
  readonly clientMac: Uint8Array;
  readonly ownMac: Uint8Array;
  /** VLAN tags as they lie in the frame: none, 4 bytes or 8. */
  readonly tags: Uint8Array;
}

/** One direction of a translated flow. It stands under the key that its packets arrive with. */
export interface NatFlow {
  readonly lastSeenNs: bigint;
  /** The key of the other direction: what packets of this one are made of. */
  readonly other: FlowTuple;
  readonly destination: number;
  readonly generation: number;
  /** Index. */
  readonly service: number;
  readonly way: ClientWay;
  /** Seen in this direction. */
  readonly fin: boolean;
  readonly rst: boolean;
  /** Of replies: there was one. Of requests: one that was no SYN, so whoever sends them hears the answers. */
  readonly answered: boolean;
  readonly reply: boolean;
}

/** The times and flags by which the end of a flow is judged. */
export type NatSeen = Pick<NatFlow, "lastSeenNs" | "fin" | "rst" | "answered">;

const NS_PER_MS = 1_000_000n;
const UDP = 17;

/** Whether nobody needs the flow any more. A direction that is gone is null. */
export function isNatOver(
  reply: NatSeen, forward: NatSeen | null, protocol: number, timeouts: NatTimeouts, nowNs: bigint,
): boolean {
  const seenNs = forward !== null && forward.lastSeenNs > reply.lastSeenNs
    ? forward.lastSeenNs : reply.lastSeenNs;
  return seenNs + BigInt(lifeMs(reply, forward, protocol, timeouts)) * NS_PER_MS < nowNs;
}

function lifeMs(
  reply: NatSeen, forward: NatSeen | null, protocol: number, timeouts: NatTimeouts,
): number {
  if (protocol === UDP) return timeouts.udpMs;
  if (reply.rst || forward?.rst === true) return timeouts.rstMs;
  if (reply.fin || forward?.fin === true) return timeouts.finMs;
  // Anybody can send a SYN from an invented address, and have it answered (RFC 5382, 5).
  const isEstablished = reply.answered && forward?.answered !== false;
  return isEstablished ? timeouts.establishedMs : timeouts.synMs;
}

/** What became of packets that had to begin a translated flow. */
export type NatOutcome = "claimed" | "port_translated" | "taken_over";

/** The outcomes in the order of the enum. */
export const NAT_OUTCOMES: readonly NatOutcome[] = ["claimed", "port_translated", "taken_over"];
