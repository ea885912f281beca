// What every listener of the proxy plane shares: the doors to the world, the books, the table in
// force, and the one way a client becomes a packet for decide(). Knows no socket.

import type { Env } from "../../env.ts";
import type { PassDatagram, PlanePredecessor } from "../dataplane.ts";
import type { Address } from "../../model/address.ts";
import { affinityKey } from "../../model/affinity.ts";
import type { AffinityKey } from "../../model/affinity.ts";
import { nextPick } from "../../model/choice.ts";
import type { Decide, Decision, State } from "../../model/decide.ts";
import type { FlowListener } from "../../model/flows_seen.ts";
import { isPickAlgorithm } from "../../model/pick.ts";
import type { PickState } from "../../model/pick.ts";
import { everyRegion } from "../../model/service_lookup.ts";
import { isFailedOpen } from "../../model/split.ts";
import type { Destination, ForwardingTable, Service } from "../../model/table.ts";
import type { Affinities, AffinityHold } from "./affinities.ts";
import type { DescriptorBudget } from "./descriptors.ts";
import type { Latencies } from "./latencies.ts";
import type { Tally } from "./tally.ts";

export interface ProxyContext {
  readonly env: Env;
  readonly tally: Tally;
  /** Of services with least-response-time. */
  readonly latencies: Latencies;
  readonly affinities: Affinities;
  readonly decide: Decide;
  readonly descriptors: DescriptorBudget;
  /** Listening sockets of a predecessor. */
  readonly take: PlanePredecessor["take"];
  /** Where datagrams of clients without a session go while the predecessor begins sessions; null: it does not. */
  readonly pass: PassDatagram | null;
  /** What becomes of flows, for whoever listens. */
  readonly saw: FlowListener;
  /** Of services that pick in turn, by name: the turn that is next. */
  readonly turns: Map<string, number>;
  /** The table in force. */
  table(): ForwardingTable;
  /** Warns at most once in a while for each `topic`; what happens often is in the counters. */
  warn(topic: string, fields: object, message: string): void;
}

/** What a client sent first, from whom. */
export interface ClientPlace {
  readonly address: Address;
  readonly port: number;
}

const IPPROTO = { tcp: 6, udp: 17 } as const;
/** A socket does not tell; the packet has already arrived. */
const TTL = 64;
const DRAWS = 2 ** 32;

/** The address and port of a service that a socket stands for. */
export interface VirtualPlace {
  readonly address: Address;
  readonly port: number;
}

/** Flows of one service, over all the ports that it listens on. */
export interface ServiceLoad {
  flows: number;
}

/**
 * The decision on a new connection or session; of a service with regions, it names that of the client's. The
 * destination is the service's address and port, never the socket's, so that a laptop with an offset picks what
 * production would.
 */
export function decideFlow(
  context: ProxyContext, service: Service, to: VirtualPlace, client: ClientPlace, datagram?: Uint8Array,
): Decision {
  const { address, port } = to;
  const { protocol } = service.config;
  const state: State = {
    flow: null, // whoever has a flow has a socket, and is not asked again
    nowNs: context.env.clock.monotonicNs(),
    heartbeatNs: null,
    neighbour: () => true,
    affinity: (decided) => {
      const key = keyOf(decided, client);
      return key === null ? null : context.affinities.of(key);
    },
    ...(isPickAlgorithm(service.config.algorithm) ? { pick: (picking: Service) => pickState(context, picking) } : {}),
  };
  const decision = context.decide(context.table(), state, {
    kind: "flow", family: address.family, protocol: IPPROTO[protocol],
    source: client.address.bytes, sourcePort: client.port,
    destination: address.bytes, destinationPort: port,
    syn: protocol === "tcp", ack: false, fin: false, rst: false, tellable: false, ttl: TTL,
    ...(datagram === undefined ? {} : { datagram }),
  });
  const asked = decision.service?.name ?? service.name;
  for (const effect of decision.effects) if (effect.kind === "take-turn") context.turns.set(asked, effect.next);
  return decision;
}

/** Remembers where the client's flow goes; null: the service remembers no clients. */
export function holdAffinity(
  context: ProxyContext, service: Service, client: ClientPlace, destination: Destination,
): AffinityHold | null {
  const key = keyOf(service, client);
  return key === null ? null : context.affinities.begin(key, destination, context.table().affinitiesMax);
}

function keyOf({ affinity, config }: Service, { address }: ClientPlace): AffinityKey | null {
  return affinity === null ? null : affinityKey(affinity, config, { source: address.bytes });
}

/** Where a connection goes after the backends that did not take it; null: nobody is left. */
export function decideAgain(
  context: ProxyContext, service: Service, slot: number, tried: ReadonlySet<number>,
): Destination | null {
  // A ring that shrank meanwhile may have no such slot any more.
  const { destination, turn } = nextPick(
    context.table(), service, pickState(context, service), slot % service.ring.size, tried);
  if (turn !== undefined) context.turns.set(service.name, turn);
  return destination;
}

/** Chance, turns and loads, all exact: this process holds every flow itself. */
function pickState(context: ProxyContext, service: Service): PickState {
  const { env, tally, latencies, turns } = context;
  const turn = turns.get(service.name) ?? 0;
  const nameOf = (id: number): string => context.table().destinations.get(id)?.name ?? "";
  const load = (id: number): number => tally.load(nameOf(id));
  return {
    draw: Math.floor(env.random.next() * DRAWS), turn, load,
    latency: (id) => latencies.of(nameOf(id)),
    loadTotal: () => service.destinations.reduce((sum, id) => sum + load(id), 0),
  };
}

/**
 * Whether flows may stay with this destination under the service's newest version: also where their client has come
 * into another region meanwhile.
 */
export function maySit(
  table: ForwardingTable, service: Service, destination: Pick<Destination, "identity">,
): boolean {
  return everyRegion(table, service).some((each) => {
    const now = each.destinations.map((id) => table.destinations.get(id)).find((one) => one?.identity === destination.identity);
    return now !== undefined && (now.alive || (isFailedOpen(each, now.id) && !now.resets));
  });
}

/** The newest version of a service, or of one of its regions; the last one if it is gone. */
export function newest(table: ForwardingTable, service: Service, decided: Service): Service {
  return everyRegion(table, service).find(({ name }) => name === decided.name) ?? decided;
}

export function warnOfDescriptors(context: ProxyContext, service: string): void {
  context.warn("descriptors", { service, max: context.descriptors.max },
    "the proxy has all the sockets it may have; raise the limit of open files (ulimit -n)");
}

const WARNING_PAUSE_MS = 10_000;

/**
 * A `warn` that says each thing at most every ten seconds, with the number of times it went unsaid.
 */
export function createWarner(env: Env): ProxyContext["warn"] {
  const said = new Map<string, { atMs: number; unsaid: number }>();
  return (topic, fields, message) => {
    const nowMs = env.clock.monotonicMs();
    const last = said.get(topic);
    if (last !== undefined && nowMs - last.atMs < WARNING_PAUSE_MS) {
      last.unsaid += 1;
      return;
    }
    said.set(topic, { atMs: nowMs, unsaid: 0 });
    const repeated = last?.unsaid ?? 0;
    env.log.warn(repeated === 0 ? fields : { ...fields, repeated }, message);
  };
}
