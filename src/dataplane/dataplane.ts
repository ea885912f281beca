// What a data plane is to the supervisor: something that takes forwarding tables and answers with
// counts. Both planes implement it; this file knows neither of them.

import type { Socket } from "node:net";
import type { SharedSocket } from "../env.ts";
import type { Address } from "../model/address.ts";
import type { FlowListener } from "../model/flows_seen.ts";
import type { HeldFlows } from "../model/held_flows.ts";
import type { ForwardingTable, Ledger } from "../model/table.ts";
import type { VerdictName } from "../model/decide.ts";
import type { TrackingOutcome } from "../model/flow_decide.ts";
import type { NatOutcome } from "../model/nat.ts";
import type { QuicOutcome } from "../model/quic_route.ts";
import type { SlotSweep } from "../model/slot_states.ts";

export interface TrafficCount {
  /** Datagrams in the proxy plane, which sees no packets of TCP. */
  readonly packets: number;
  readonly bytes: number;
  /** New flows: remembered (xdp), accepted connections or sessions (proxy). */
  readonly flows: number;
}

export interface Counters {
  /** Packets per verdict (xdp), or connections and sessions per verdict (proxy). */
  readonly verdicts: Readonly<Partial<Record<VerdictName, { readonly packets: number; readonly bytes: number }>>>;
  /** By service name. */
  readonly services: ReadonlyMap<string, TrafficCount>;
  /** By "pool/backend". */
  readonly backends: ReadonlyMap<string, TrafficCount>;
  /** What the flow table holds (null: nobody has counted yet) and can (xdp), or connections and sessions (proxy). */
  readonly flowTable: { readonly count: number | null; readonly max: number };
  /** How the flow table copes with being full (xdp). */
  readonly evictions?: FlowEvictions;
  /** Flows now, by service name: of every service of the table. */
  readonly serviceFlows: ReadonlyMap<string, HeldFlows>;
  /** Flows now, by "pool/backend": of every backend of the table. */
  readonly backendFlows: ReadonlyMap<string, HeldFlows>;
  /** Flows now that a service, by its name, has at a backend, by "pool/backend" (xdp). */
  readonly flowsAt?: ReadonlyMap<string, ReadonlyMap<string, HeldFlows>>;
  /** Those of backends as a drain is to count them, which begins to learn of some only when a backend gets no new ones. */
  readonly drainFlows: ReadonlyMap<string, HeldFlows>;
  /** Named things that happened beside the verdicts (proxy): at a limit, a backend that refused, an idle timeout. */
  readonly incidents?: ReadonlyMap<string, number>;
  /** What backends take to answer, in milliseconds, by "pool/backend" (proxy; of services with least-response-time). */
  readonly latencies?: ReadonlyMap<string, number>;
  /** Packets of services with quicLb, by what their connection ID said. */
  readonly quic?: ReadonlyMap<QuicOutcome, number>;
  /** Packets that met slots with exceptions, by what became of them. */
  readonly tracking?: ReadonlyMap<TrackingOutcome, number>;
  /** Translated flows; absent: nothing is translated. */
  readonly nat?: NatCounters;
  /** Clients that are remembered; absent: no service remembers any. */
  readonly affinities?: AffinityCounters;
}

export interface FlowEvictions {
  /** Entries that give way first: of flows that were silent for longer than they may be. */
  readonly idle: number;
  /** Pushed out since the table was made, at least. */
  readonly flows: number;
  /** Of those, between the last two counts. */
  readonly lately: number;
  /** Flows that the kernel found no room for. */
  readonly refused: number;
}

export interface NatCounters {
  /** Under way now, as the last walk over the table found them: both directions are one. */
  readonly count: number;
  readonly max: number;
  readonly outcomes: ReadonlyMap<NatOutcome, number>;
  /** Ended since the plane was opened. */
  readonly ended: number;
  /** Of those under way, by "pool/backend": without an answer for three seconds. */
  readonly unanswered: ReadonlyMap<string, number>;
  /** By "pool/backend". */
  readonly answers: ReadonlyMap<string, AnswerCount>;
}

/** First answers to what began flows (a SYN, or a datagram), and how long clients waited for them, all together. */
export interface AnswerCount {
  readonly answers: number;
  readonly waitedMs: number;
}

export interface AffinityCounters {
  /** Heard of within the timeout of their service (xdp: by the last walk over the table; null: nobody has counted yet). */
  readonly count: number | null;
  readonly max: number;
  /** By service name: of every service that remembers clients, once they were counted. */
  readonly services: ReadonlyMap<string, number>;
  /** Forgotten before their time to make room for others, since the plane was opened (proxy). */
  readonly evicted?: number;
}

/** One step of an apply, for logs and `plan`: what is done to what. */
export interface StepDescription {
  readonly action: string;
  readonly object: string;
  readonly detail: string;
}

export interface ApplyReport {
  readonly steps: number;
  /** From the call to the last slot written, milliseconds. */
  readonly durationMs: number;
  /** Services that could not be served (a proxy port in use, say); the others are. */
  readonly failed: ReadonlyMap<string, string>;
}

export interface InterfaceStatus {
  readonly name: string;
  readonly ifindex: number;
  readonly mode: "native" | "generic";
  readonly adopted: boolean;
}

/** Packets to these backends ("pool/backend") may not arrive: a reason to look, and no verdict, for anybody can send errors. */
export type DoubtListener = (backends: readonly string[], reason: string) => void;

export interface PlaneStatus {
  readonly mode: "xdp" | "proxy";
  readonly interfaces: readonly InterfaceStatus[];
  /** Interfaces of the config that packets are not forwarded on, by name: why. They are tried again (xdp). */
  readonly refused: ReadonlyMap<string, string>;
  /** True when live pinned state was found and kept. */
  readonly adopted: boolean;
  /** By service name: where it listens (proxy) or the virtual address itself (xdp). */
  readonly listening: ReadonlyMap<string, string>;
  /** By "pool/backend": next hop text, "resolved" or why not (xdp). */
  readonly neighbours: ReadonlyMap<string, string>;
  /** By "pool/backend": what a router told of the way that its tunnels take (xdp). */
  readonly pathMtus: ReadonlyMap<string, number>;
  readonly failed: ReadonlyMap<string, string>;
}

/** What a health probe tries that travels as a client's packets do. */
export interface ProbePlace {
  /** The service whose way of forwarding it takes, by name. */
  readonly service: string;
  /** "pool/backend". */
  readonly backend: string;
  /** The virtual address. */
  readonly address: Address;
  readonly port: number;
}

export interface Dataplane {
  readonly mode: "xdp" | "proxy";
  /** A socket that is connecting that way; or why there is none, which is no fault of the backend. */
  connectProbe(place: ProbePlace): Socket | string;
  /** There are no such probes any more: what they needed of this host goes, also what a dead owner left. */
  endProbes(): void;
  /**
   * What the plane holds: the first compile starts from it, and one after an apply that failed. Empty for a
   * new plane. `generation`: of the next table.
   */
  ledger(generation?: number): Ledger;
  /**
   * Reads again what another plane of this process, that had the same pins for a while, has written: before
   * ledger(), which else tells of a past. Absent: nobody else writes.
   */
  reclaim?(): Promise<void>;
  /** The seed of the adopted plane, or null. */
  adoptedSeed(): bigint | null;
  /** Brings the plane to the table. Calls are serialised by the supervisor. Throws Failure; what was served stays. */
  apply(table: ForwardingTable): Promise<ApplyReport>;
  /** What apply(table) would do now. */
  plan(table: ForwardingTable): readonly StepDescription[];
  counters(): Counters;
  status(): PlaneStatus;
  /** By service key: slots that flows were found in which are remembered elsewhere. Absent: no flow is moved. */
  sweeps?(): ReadonlyMap<string, SlotSweep>;
  /** Sweeps have found something. Takes the place of an earlier listener. */
  onSwept?(listener: () => void): void;
  /** Takes the place of an earlier listener. Absent: the plane hears of nothing. */
  onDoubt?(listener: DoubtListener): void;
  /**
   * How long a backend ("pool/backend") took to answer clients lately, in milliseconds; null: nobody has measured it.
   * Absent: the plane sees no answers, or when they came.
   */
  answerMs?(backend: string): number | null;
  /**
   * How long it took to answer what began flows, which of TCP is a part of that alone: the kernel accepts connections, and
   * what is behind it answers later. null: too few flows began to tell. Absent: the plane does not see that part for itself.
   */
  handshakeMs?(backend: string): number | null;
  /** Hears what becomes of flows, where answers are seen. Takes the place of an earlier listener. */
  onFlows?(listener: FlowListener): void;
  /** The supervisor lives (xdp: writes the heartbeat). */
  heartbeat(): void;
  /** Absent: nothing of the plane ends with its process. */
  bequest?(): PlaneBequest;
  close(options: CloseOptions): Promise<void>;
}

/** How a plane, and what stands on it, ends. */
export interface CloseOptions {
  /** Also stop forwarding and remove every trace; else an xdp plane goes on alone. */
  readonly detach: boolean;
  /** Connections of the proxy plane may end by themselves for so long. */
  readonly drainMs: number;
  /** Another process has taken over: what both share stays. */
  readonly handedOver?: boolean;
  /** The time is over once it is aborted. */
  readonly hurry?: AbortSignal;
}

/** What a plane has for a process that takes over, and does for it then. */
export interface PlaneBequest {
  /** One that it listens on, by its `ListeningPlace.key`. */
  sharedSocket(key: string): SharedSocket | null;
  /** Begins to share UDP sessions with that process. */
  shareSessions(send: SendSession): SessionSharing;
  /** Connections that go on here, and in the process that this one has taken over from. */
  heldFlows(): FlowsElsewhere;
  /** Of these backends ("pool/backend"), in both. */
  endFlows(backends: ReadonlySet<string>): void;
}

/** Flows that another process has still: numbers above zero, by service name and by "pool/backend". */
export interface FlowsElsewhere {
  readonly services: Readonly<Record<string, number>>;
  readonly backends: Readonly<Record<string, number>>;
}

/** A UDP session as another process goes on with it. */
export interface SharedSession {
  /** Its name in the last word. */
  readonly id: number;
  /** Of the listening socket that its client sends to. */
  readonly key: string;
  /** Of the client, as Node tells them. */
  readonly address: string;
  readonly port: number;
  /** A connection ID names its backend; the client may have another session beside it. */
  readonly isNamed: boolean;
  /** `Destination.identity`, in decimal. */
  readonly backend: string;
  readonly proxyProtocol: string;
  readonly idleMs: number;
}

/** Resolves when the socket is on its way; rejects when the other process is gone. */
export type SendSession = (session: SharedSession, socket: SharedSocket) => Promise<void>;

/** A client's datagram that another process is to take, since it has the client's session or decides. */
export interface PassedDatagram {
  /** Of the listening socket that it was read from. */
  readonly key: string;
  readonly address: string;
  readonly port: number;
  readonly bytes: Uint8Array;
}

/** False: too many are under way, and this one is lost. */
export type PassDatagram = (datagram: PassedDatagram) => boolean;

/** What became of sessions while both processes had them, by id. */
export interface LastWord {
  /** Something moved in the old process. */
  readonly busy: readonly number[];
  readonly ended: readonly number[];
  /** So many could not be shared in time. */
  readonly leftBehind: number;
}

/**
 * UDP sessions on their way to a process that takes over. Until leave() both processes have what is shared,
 * whichever reads a datagram takes it, and this one alone begins sessions.
 */
export interface SessionSharing {
  /** The sessions of this listening socket, which the other process has: those there are, and those to come. */
  share(key: string): void;
  /** A datagram that the other process has read, and has no session for. */
  receive(datagram: PassedDatagram): void;
  /** Resolves when the other process has all there are, or after so long. */
  settled(patienceMs: number): Promise<void>;
  /** The other process begins sessions from now on, and is passed whatever is read here. */
  leave(pass: PassDatagram): LastWord;
  /** After leave(): ends what is here. */
  close(): void;
  /** Everything is ours again: the other process is gone. */
  undo(): void;
}

/** What a plane does with UDP sessions of its predecessor's. */
export interface SessionReceiver {
  adopt(session: SharedSession, socket: SharedSocket): void;
  receive(datagram: PassedDatagram): void;
  /** This plane begins sessions from now on. Null: the predecessor is gone without a word. Safe to repeat. */
  decide(lastWord: LastWord | null): void;
}

/** The process that a plane takes over from. */
export interface PlanePredecessor {
  /** Its listening sockets, by key; null where it has none. */
  take(key: string): Promise<SharedSocket | null>;
  /** Whether it shares its UDP sessions, and begins them until its last word. */
  readonly sharesSessions: boolean;
  onSessions(receiver: SessionReceiver): void;
  readonly pass: PassDatagram;
  /** It has not left yet, or has connections still. */
  isServing(): boolean;
  /** Connections that it has still. */
  heldFlows(): FlowsElsewhere;
  /** Once it has left: ends those with these backends. */
  endFlows(backends: ReadonlySet<string>): void;
}

/** What happened when a plane was chosen, for `status`, the log and the metric. */
export interface PlaneChoice {
  readonly mode: "xdp" | "proxy";
  /** One sentence: why this plane. */
  readonly reason: string;
  /** What to do to get the better one, or null. */
  readonly remedy: string | null;
  /** In order: what was tried and what came of it. */
  readonly attempts: readonly { readonly what: string; readonly result: string }[];
}
