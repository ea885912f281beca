// Reads the counters: per-CPU values summed, with what walks over the flow tables found. Knows maps; names
// come from the table.

import type { Env } from "../../env.ts";
import type { VerdictName } from "../../model/decide.ts";
import { FLOW_EVENTS, TRACKING_OUTCOMES, type FlowEvent } from "../../model/flow_decide.ts";
import type { FlowListener } from "../../model/flows_seen.ts";
import { drainKindOf, flowKindOf, sumOfFlows } from "../../model/held_flows.ts";
import type { FlowKind, HeldFlows } from "../../model/held_flows.ts";
import { NAT_OUTCOMES, translates } from "../../model/nat.ts";
import { QUIC_OUTCOMES } from "../../model/quic_route.ts";
import type { Destination, ForwardingTable, Service } from "../../model/table.ts";
import type { AnswerCount, Counters, TrafficCount } from "../dataplane.ts";
import { AnswerCount as AnswerBytes, TrafficCount as TrafficBytes, VERDICT_NAMES, VerdictCount } from "./abi.gen.ts";
import type { AffinityCount } from "./affinity_sweep.ts";
import { encodeU32 } from "./map_values.ts";
import type { MapSet } from "./maps.ts";
import { cellOf, type FlowCount } from "./flow_sweep.ts";
import { Handshakes, sumOfAnswers, type AnswerCounts } from "./handshakes.ts";
import { NatOutcomes } from "./nat_outcomes.ts";
import type { NatCount } from "./nat_sweep.ts";
import type { BpfMap } from "./native.ts";

const BATCH = 1024;

/** The first `count` elements of a per-CPU array, each summed over CPUs, as numbers of u64 fields. */
export function sumPerCpu(map: BpfMap, count: number, fields: number): number[][] {
  const sums: number[][] = [];
  for (let cursor: Uint8Array | null = null; sums.length < count;) {
    const batch = map.lookupBatch(cursor, Math.min(BATCH, count - sums.length));
    const values = new BigUint64Array(batch.values.slice().buffer);
    const perElement = batch.count === 0 ? 0 : values.length / batch.count;
    for (let element = 0; element < batch.count; element++) {
      const sum = new Array<number>(fields).fill(0);
      for (let at = 0; at < perElement; at++) {
        sum[at % fields]! += Number(values[element * perElement + at]);
      }
      sums.push(sum);
    }
    cursor = batch.cursor;
    if (cursor === null) break;
  }
  return sums;
}

const U64 = 8;
const NS_PER_MS = 1e6;

function readTraffic(map: BpfMap, highest: number): TrafficCount[] {
  const { packets, bytes, flows } = TrafficBytes.offsets;
  return sumPerCpu(map, highest + 1, TrafficBytes.size / U64)
    .map((sums) => ({ packets: sums[packets / U64]!, bytes: sums[bytes / U64]!, flows: sums[flows / U64]! }));
}

/** First answers of the destinations that are translated to. */
function readAnswers(map: BpfMap, destinations: readonly Destination[]): AnswerCounts {
  const translated = destinations.filter(({ forwarding }) => translates(forwarding));
  const counts = new Map<string, Map<string, AnswerCount>>();
  if (translated.length === 0) return counts;
  const { answers, waitedNs } = AnswerBytes.offsets;
  const byId = sumPerCpu(map, Math.max(...translated.map(({ id }) => id)) + 1, AnswerBytes.size / U64);
  for (const { id, generation, name } of translated) {
    const sums = byId[id] ?? [];
    const count = { answers: sums[answers / U64] ?? 0, waitedMs: (sums[waitedNs / U64] ?? 0) / NS_PER_MS };
    counts.set(name, (counts.get(name) ?? new Map<string, AnswerCount>()).set(`${id}/${generation}`, count));
  }
  return counts;
}

/** What backends of these destinations take to answer clients. */
export function handshakesOf(env: () => Env, maps: () => MapSet, destinations: () => readonly Destination[]): Handshakes {
  return new Handshakes(env, () => readAnswers(maps().answer_counts, destinations()));
}

const NO_TRAFFIC: TrafficCount = { packets: 0, bytes: 0, flows: 0 };

/** Entries of the flow table by what befell them. */
export function readFlowEvents(maps: MapSet): Record<FlowEvent, number> {
  const [written = 0, forgotten = 0, refused = 0] = sumPerCpu(maps.flow_counts, FLOW_EVENTS.length, 1).map(([n = 0]) => n);
  return { written, forgotten, refused };
}

/** What was found of flows when the tables were walked. */
export interface FlowsFound {
  readonly flows: FlowCount;
  readonly flowsMax: number;
  /** Estimates; null where no flow is looked at. */
  readonly samples: FlowCount | null;
  /** Null where nothing is translated. */
  readonly nat: NatCount | null;
  readonly natFlowsMax: number;
  readonly clients: AffinityCount;
  readonly affinitiesMax: number;
}

export function readCounters(maps: MapSet, table: ForwardingTable | null, found: FlowsFound): Counters {
  const { flows, flowsMax, nat } = found;
  const verdicts: Partial<Record<VerdictName, { packets: number; bytes: number }>> = {};
  sumPerCpu(maps.verdict_counts, VERDICT_NAMES.length - 1, VerdictCount.size / U64)
    .forEach((sums, verdict) => {
      const name = VERDICT_NAMES[verdict];
      const { packets, bytes } = VerdictCount.offsets;
      if (name !== undefined && isVerdict(name)) verdicts[name] = { packets: sums[packets / U64]!, bytes: sums[bytes / U64]! };
    });
  const services = new Map<string, TrafficCount>();
  const backends = new Map<string, TrafficCount>();
  const unanswered = new Map<string, number>();
  if (table !== null) {
    const byIndex = readTraffic(maps.service_traffic, Math.max(-1, ...table.services.map(({ index }) => index)));
    for (const { name, index } of table.services) services.set(name, byIndex[index] ?? NO_TRAFFIC);
    const byId = readTraffic(maps.destination_traffic, Math.max(0, ...table.destinations.keys()));
    // A backend with several ports or ways of forwarding has several destinations.
    for (const { id, name, generation } of table.destinations.values()) {
      backends.set(name, plus(backends.get(name) ?? NO_TRAFFIC, byId[id] ?? NO_TRAFFIC));
      const place = `${id}/${generation}`;
      const silent = nat?.unanswered.get(place) ?? 0;
      if (silent > 0) unanswered.set(name, (unanswered.get(name) ?? 0) + silent);
    }
  }
  return {
    verdicts,
    services, backends,
    flowTable: { count: flows.atMs === null ? null : flows.count, max: flowsMax },
    evictions: { idle: flows.idle, flows: flows.evicted, lately: flows.evictedLately, refused: readFlowEvents(maps).refused },
    ...heldFlows(table, found),
    ...affinities(table, found),
    tracking: new Map(sumPerCpu(maps.tracking_counts, TRACKING_OUTCOMES.length, 1)
      .map(([packets = 0], outcome) => [TRACKING_OUTCOMES[outcome]!, packets])),
    quic: new Map(sumPerCpu(maps.quic_counts, QUIC_OUTCOMES.length, 1)
      .map(([packets = 0], outcome) => [QUIC_OUTCOMES[outcome]!, packets])),
    ...(nat === null ? {} : {
      nat: {
        count: nat.count, max: found.natFlowsMax, ended: nat.ended, unanswered, answers: answersOf(maps, table),
        outcomes: new Map(sumPerCpu(maps.nat_counts, NAT_OUTCOMES.length, 1)
          .map(([flows = 0], outcome) => [NAT_OUTCOMES[outcome]!, flows])),
      },
    }),
  };
}

/** By backend. */
function answersOf(maps: MapSet, table: ForwardingTable | null): ReadonlyMap<string, AnswerCount> {
  const counted = readAnswers(maps.answer_counts, [...table?.destinations.values() ?? []]);
  return new Map([...counted].map(([name, places]) => [name, [...places.values()].reduce(sumOfAnswers)]));
}

/** Tells `listener` what became of translated flows with these destinations, by the names of their backends. */
export function natOutcomesOf(maps: () => MapSet, destinations: () => readonly Destination[], listener: FlowListener): NatOutcomes {
  let known: { readonly of: readonly Destination[]; readonly names: ReadonlyMap<string, string> } = { of: [], names: new Map() };
  const nameAt = (place: string): string | undefined => {
    const of = destinations();
    if (known.of !== of) known = { of, names: new Map(of.map(({ id, generation, name }) => [`${id}/${generation}`, name])) };
    return known.names.get(place);
  };
  return new NatOutcomes({
    begun: () => readBegun(maps(), destinations()),
    tell: (place, seen) => {
      const name = nameAt(place);
      if (name !== undefined) listener(name, seen);
    },
  });
}

/** Flows begun with each destination that is translated to, by "id/generation", since its counter began. */
function readBegun(maps: MapSet, destinations: readonly Destination[]): ReadonlyMap<string, number> {
  const translated = destinations.filter(({ forwarding }) => translates(forwarding));
  if (translated.length === 0) return new Map();
  const byId = readTraffic(maps.destination_traffic, Math.max(...translated.map(({ id }) => id)));
  return new Map(translated.map(({ id, generation }) => [`${id}/${generation}`, byId[id]?.flows ?? 0]));
}

/** "id/generation" of those that get no new flows. */
export function closedTo(destinations: readonly Destination[]): ReadonlySet<string> {
  return new Set(destinations.flatMap(({ id, generation, admission }) => (admission === 0 ? [`${id}/${generation}`] : [])));
}

/** The same of those whose flows are to be ended. */
export function takenOut(destinations: readonly Destination[]): ReadonlySet<string> {
  return new Set(destinations.flatMap(({ id, generation, resets }) => (resets ? [`${id}/${generation}`] : [])));
}

/** Of the services and backends of a table; a backend has the sum of what its services have there. */
function heldFlows(
  table: ForwardingTable | null, found: FlowsFound,
): Pick<Counters, "serviceFlows" | "backendFlows" | "flowsAt" | "drainFlows"> {
  const serviceFlows = new Map<string, HeldFlows>();
  const flowsAt = new Map<string, Map<string, HeldFlows>>();
  const backendFlows = new Map<string, HeldFlows>();
  const drainFlows = new Map<string, HeldFlows>();
  for (const service of table?.services ?? []) {
    const places = new Map<string, HeldFlows>();
    flowsAt.set(service.name, places);
    for (const id of service.destinations) {
      const destination = table!.destinations.get(id);
      if (destination === undefined) continue;
      const kind = flowKindOf(service);
      const held = heldBy(service, destination, kind, kind === "exact" ? found.nat : kind === "tracked" ? found.flows : found.samples);
      add(places, destination.name, held);
      add(serviceFlows, service.name, held);
      add(backendFlows, destination.name, held);
      add(drainFlows, destination.name, kind === "estimated" ? heldBy(service, destination, drainKindOf(service), found.flows) : held);
    }
  }
  return { serviceFlows, backendFlows, flowsAt, drainFlows };
}

/** As a walk over one of the tables found them; null: there is none. */
function heldBy(
  service: Service, { id, generation }: Destination, kind: FlowKind, walked: Pick<FlowCount, "atMs" | "byCell"> | null,
): HeldFlows {
  const atMs = walked?.atMs ?? -Infinity;
  return atMs === -Infinity || kind === "unknown" ? { count: 0, kind: "unknown", atMs }
    : { count: walked!.byCell.get(cellOf(service.index, id, generation)) ?? 0, kind, atMs };
}

function add(sums: Map<string, HeldFlows>, name: string, held: HeldFlows): void {
  const others = sums.get(name);
  sums.set(name, others === undefined ? held : sumOfFlows(others, held));
}

/** Of the services that remember clients; nothing where none does. */
function affinities(table: ForwardingTable | null, { clients, affinitiesMax }: FlowsFound): Pick<Counters, "affinities"> {
  const remembering = (table?.services ?? []).flatMap(({ name, affinity }) => affinity === null ? [] : [{ name, id: affinity.id }]);
  if (remembering.length === 0) return {};
  const services = new Map(clients.atMs === null ? [] : remembering.map(({ name, id }) => [name, clients.byId.get(id) ?? 0] as const));
  return { affinities: { count: clients.atMs === null ? null : sumOf(services.values()), max: affinitiesMax, services } };
}

function sumOf(counts: Iterable<number>): number {
  return [...counts].reduce((sum, count) => sum + count, 0);
}

/** Packets with this verdict. */
export function readVerdict(maps: MapSet, name: VerdictName): number {
  const value = maps.verdict_counts.lookup(encodeU32(VERDICT_NAMES.indexOf(name)));
  const words = new BigUint64Array((value ?? new Uint8Array()).slice().buffer);
  return words.reduce((sum, word, at) => at % (VerdictCount.size / U64) === 0 ? sum + Number(word) : sum, 0);
}

/** The first and the last of the enum are not outcomes. */
function isVerdict(name: (typeof VERDICT_NAMES)[number]): name is VerdictName {
  return name !== "VERDICT_CONTINUE" && name !== "VERDICTS";
}

function plus(a: TrafficCount, b: TrafficCount): TrafficCount {
  return { packets: a.packets + b.packets, bytes: a.bytes + b.bytes, flows: a.flows + b.flows };
}
