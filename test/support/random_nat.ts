// Random translated flows: ports are few and so are clients, so that flows meet; times are chosen far
// from every limit. Knows the model's types; knows no map.

import { addressFromBytes } from "../../src/model/address.ts";
import { natTable } from "../../src/model/nat.ts";
import type { NatFlow, NatTable } from "../../src/model/nat.ts";
import type { FlowTuple } from "../../src/model/packet.ts";
import type { Destination } from "../../src/model/table.ts";
import type { KnownNat } from "./nat_book.ts";
import { ipv4, mac } from "./packets.ts";
import type { Draws } from "./random.ts";

const HOUR_NS = 3_600_000_000_000n;
/** Longer than any machine has been up, and shorter than this one certainly has. */
const LONG_MS = 1_000_000_000_000;
const SHORT_MS = 10_000;

export function randomNat(draws: Draws): NatTable {
  const life = (): number => draws.pick([SHORT_MS, LONG_MS]);
  const from = draws.pick([1024, 20_000]);
  // A source may be an address of services, whose ports may hold those of flows.
  const isVirtual = draws.chance(0.4);
  return natTable(
    {
      sources: [
        ...Array.from({ length: draws.pick([0, 1, 2]) }, (_, at) => addressFromBytes(
          isVirtual ? ipv4(203, 0, 113, at + 1) : ipv4(10, 8, 0, at + 1))),
        ...Array.from({ length: draws.pick([0, 1, 3]) }, (_, at) => addressFromBytes(
          isVirtual ? virtualIpv6(at + 1) : ownIpv6(at + 1))),
      ],
      ports: { from, to: from + draws.pick([1, 3, 7, 12_000]) },
      node: draws.below(2), nodes: 2,
      timeouts: { synMs: life(), establishedMs: life(), finMs: life(), rstMs: life(), udpMs: life() },
    },
    1000,
  );
}

function ownIpv6(last: number): Uint8Array {
  return Uint8Array.of(0xfd, 8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last);
}

function virtualIpv6(last: number): Uint8Array {
  return Uint8Array.of(0xfd, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last);
}

/** Entries of both directions for some of the flows; now and then one direction is missing. */
export function randomNatFlows(
  draws: Draws,
  given: {
    readonly nat: NatTable;
    readonly flows: readonly { readonly tuple: FlowTuple }[];
    readonly destinations: readonly Destination[];
    readonly ifindexes: readonly number[];
    readonly nowNs: bigint;
  },
): KnownNat[] {
  const known = new Map<string, KnownNat>();
  for (const { tuple } of given.flows) {
    if (draws.chance(0.5)) continue;
    const family = tuple.source[0] === 0 ? 4 : 6;
    const fitting = given.destinations.filter(({ address, forwarding }) =>
      address.family === family && (forwarding === "nat" || forwarding === "fullnat"));
    if (fitting.length === 0) continue;
    const destination = draws.pick(fitting);
    const reply = replyKey(draws, given.nat, tuple, destination);
    const entry = (): Omit<NatFlow, "other" | "reply"> => ({
      lastSeenNs: draws.chance(0.5) ? 0n : given.nowNs + HOUR_NS,
      destination: destination.id,
      generation: destination.generation + (draws.chance(0.85) ? 0 : 1),
      service: draws.below(24),
      way: { ifindex: draws.pick(given.ifindexes), clientMac: mac(draws.below(9)), ownMac: mac(draws.below(9)), tags: randomTags(draws) },
      fin: draws.chance(0.2), rst: draws.chance(0.1), answered: draws.chance(0.6),
    });
    const forward = { key: tuple, flow: { ...entry(), answered: false, other: reply, reply: false } };
    const back = { key: reply, flow: { ...entry(), other: tuple, reply: true } };
    for (const one of [forward, back]) {
      if (draws.chance(0.95)) known.set(JSON.stringify(Object.values(one.key)), one);
    }
  }
  return [...known.values()];
}

function randomTags(draws: Draws): Uint8Array {
  return Uint8Array.from(Array.from({ length: draws.pick([0, 0, 1, 2]) }, () =>
    [...draws.pick([[0x81, 0], [0x88, 0xa8]]), draws.below(256), draws.below(256)]).flat());
}

function replyKey(draws: Draws, nat: NatTable, tuple: FlowTuple, destination: Destination): FlowTuple {
  const { address, forwarding } = destination;
  const sources = address.family === 4 ? nat.sources.ipv4 : nat.sources.ipv6;
  const own = sources.length === 0 || draws.chance(0.1)
    ? (address.family === 4 ? ipv4(10, 9, 9, 9) : ownIpv6(99)) : draws.pick(sources).bytes;
  const port = nat.ports.first + draws.below(nat.ports.count);
  return {
    source: address.bytes, sourcePort: draws.chance(0.9) ? (destination.port ?? tuple.destinationPort) : 81,
    destination: forwarding === "nat" ? tuple.source : own,
    destinationPort: forwarding === "nat" && draws.chance(0.7) ? tuple.sourcePort : port,
    protocol: tuple.protocol,
  };
}
