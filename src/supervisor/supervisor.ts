// The supervisor as those around it see it: configs, overrides, questions and status, over the engine
// that turns them into tables. Knows no socket, map or file format; time, planes, the checker, the parser
// and the state directory are given to it.

import type {
  ApplyResult, CheckResult, ConfigRequest, DrainView, EventKind, OverrideRequest,
  OverrideView, Plan, Revision, Status,
} from "../api/schemas.ts";
import type { Explanation, ExplainRequest, RingReport, RingRequest } from "../api/schemas_questions.ts";
import type { CloseOptions, Counters, PlaneBequest } from "../dataplane/dataplane.ts";
import type { Cancel, Env } from "../env.ts";
import { Failure } from "../errors.ts";
import { certificatesSeen } from "../health/outcome_watch.ts";
import type { Checker, HealthTransition } from "../health/checker.ts";
import type { Config } from "../model/config.ts";
import type { BackendHealth, ForwardingTable, Override } from "../model/table.ts";
import type { AcceptedConfig, Origin, ParsedConfig } from "./accepted.ts";
import { acceptConfig } from "./accepted.ts";
import { ConfigChanges } from "./config_changes.ts";
import type {
  EventLog, OpenPlane, OverrideFilter, Parse, StartChecker, Supervisor, SupervisorTotals,
} from "./contract.ts";
import { Drains } from "./drains.ts";
import { Engine } from "./engine.ts";
import type { WritableEventLog } from "./events.ts";
import { createEventLog } from "./events.ts";
import { HealthKeeper } from "./health_keeper.ts";
import { OverrideBook, overrideOf } from "./override_book.ts";
import { leaveUnused, PlaneSeat } from "./plane_seat.ts";
import { answerExplain, answerRing, backendNames, resolveName } from "./questions.ts";
import { watchQuorums } from "./quorum_hooks.ts";
import type { QuorumWatch } from "./quorum_hooks.ts";
import { refuseBelowQuorum } from "./quorums.ts";
import { readRegions, regionsChanged } from "./geo_databases.ts";
import { readQuicKeys } from "./quic_keys.ts";
import { Samples } from "./samples.ts";
import type { StateDirectory } from "./state.ts";
import { describeStatus } from "./status.ts";
import { Transitions } from "./transitions.ts";
import { overrideId, overrideView } from "./view.ts";

export interface SupervisorOptions {
  readonly env: Env;
  readonly version: string;
  /** Null: nothing outlives the process. */
  readonly state: StateDirectory | null;
  readonly parse: Parse;
  readonly openPlane: OpenPlane;
  readonly startChecker: StartChecker;
  /** What `reload` reads, or null. */
  readonly file: string | null;
  /** The config to begin with. */
  readonly first: ParsedConfig;
  /** Whether commands of quorums may run. */
  readonly execHooks?: boolean;
}

const HEARTBEAT_MS = 1000;
/** Health that was kept for longer says nothing about backends, unless a plane went on using it. */
const HEALTH_FRESH_MS = 10 * 60_000;
/** A plane that hangs does not keep the supervisor from ending for longer. */
const END_PATIENCE_MS = 5000;

/** Opens the plane and makes the first apply. Throws CONFIG_INVALID and what the plane's opening throws. */
export async function createSupervisor(options: SupervisorOptions): Promise<Supervisor> {
  const { env, state } = options;
  const origin: Origin = { actor: "run", what: "start" };
  // A named seed, key or database that is missing is told before a plane is touched; a kept seed may be the plane's.
  readQuicKeys(options.first.config, options.first.file, env);
  const { config } = await readRegions(options.first.config, options.first.file, env, null);
  for (const { service, message } of regionsChanged(null, config)) env.log.info({ service }, message);
  const first = { ...options.first, config };
  if (first.config.dataplane.hashSeed.from !== "state") {
    acceptConfig(first, origin, { env, state, seedInUse: null });
  }
  const opened = await options.openPlane(first.config);
  let supervisor: PointsmanSupervisor | null = null;
  try {
    const accepted = acceptConfig(first, origin, { env, state, seedInUse: opened.plane.adoptedSeed() });
    const seat = new PlaneSeat(options.openPlane, opened, env.log);
    supervisor = new PointsmanSupervisor(options, accepted, seat);
    await supervisor.start();
    return supervisor;
  } catch (error) {
    supervisor?.halt();
    await leaveUnused(opened.plane, null);
    throw error;
  }
}

class PointsmanSupervisor implements Supervisor {
  readonly instance: string;
  readonly #options: SupervisorOptions;
  readonly #env: Env;
  readonly #events: WritableEventLog;
  readonly #seat: PlaneSeat;
  readonly #book: OverrideBook;
  readonly #checker: Checker;
  readonly #health: HealthKeeper;
  readonly #engine: Engine;
  readonly #changes: ConfigChanges;
  readonly #drains: Drains;
  readonly #conditions = new Map<string, string>();
  readonly #transitions: Transitions;
  readonly #startedAtMs: number;
  readonly #quorums: QuorumWatch;
  readonly #samples: Samples;
  #cancelHeartbeat: Cancel | null = null;
  #heartbeatFailed = false;
  #closing: Promise<void> | null = null;

  constructor(options: SupervisorOptions, first: AcceptedConfig, seat: PlaneSeat) {
    const { env, state } = options;
    this.#options = options;
    this.#env = env;
    this.#seat = seat;
    this.instance = first.config.instance;
    this.#startedAtMs = env.clock.wallMs();
    this.#events = createEventLog(env.clock);
    this.#book = new OverrideBook({
      clock: env.clock, state, onExpired: (expired) => { this.#forget(expired); },
      onOverdue: () => { this.#engine.request(); },
    });
    const record = this.#record.bind(this);
    this.#transitions = new Transitions(record, env.log);
    const initial = this.#lastHealth();
    this.#checker = options.startChecker(
      initial, (transition) => { this.#hear(transition); }, (place) => seat.plane.connectProbe(place),
      () => { this.#engine.request(); }, seat.clients,
    );
    this.#health = new HealthKeeper({ env, write: () => { state?.saveHealth(this.#checker.states()); } });
    this.#engine = new Engine({
      env,
      seat,
      checker: this.#checker,
      first,
      overrides: () => this.#book.list(),
      record,
      onInForce: (accepted, before) => this.#changes.keepRevision(accepted, before),
    });
    this.#changes = new ConfigChanges({
      env, instance: this.instance, engine: this.#engine, seat, parse: options.parse, state,
      file: options.file, counters: () => this.counters(), record,
    });
    this.#drains = new Drains({
      clock: env.clock, state, mode: () => seat.plane.mode, table: () => this.#engine.table,
      overrides: () => this.#book.list(), flows: () => this.counters().drainFlows,
      record: (target, message, fields) => { this.#record("override", target, message, fields); },
    });
    seat.onFlows((name, seen) => { this.#checker.hearFlows(name, seen); });
    seat.onDoubt((names, reason) => { this.#look(names, reason); });
    // What was known of a backend holds for the first targets, not for one that comes back next week.
    initial.clear();
    this.#samples = new Samples(env, () => seat.plane);
    this.#quorums = watchQuorums({
      env, execHooks: options.execHooks ?? false, intent: () => this.#engine.intent(), isServing: () => this.#engine.table !== null, record,
    });
  }

  get events(): EventLog { return this.#events; }

  async start(): Promise<void> {
    this.#announcePlane();
    this.#book.start();
    this.#beat();
    await this.#engine.turned();
    this.#quorums.look();
  }

  config(): Config { return this.#engine.inForce.accepted.config; }
  table(): ForwardingTable | null { return this.#engine.table; }
  counters(): Counters { return this.#samples.take().counters; }
  quiet(): Promise<void> { return this.#engine.quiet(); }

  totals(): SupervisorTotals {
    return {
      ...this.#engine.totals,
      ...this.#changes.counts,
      transitions: this.#transitions.totals,
      flows: this.#checker.flowTotals(),
      events: this.#events.lastId,
    };
  }

  status(): Status {
    const { inForce, table, lastApply } = this.#engine;
    const now = this.#samples.take();
    this.#drains.look();
    return describeStatus({
      version: this.#options.version,
      pid: this.#env.pid,
      startedAtMs: this.#startedAtMs,
      atMs: this.#env.clock.wallMs(),
      choice: this.#seat.choice,
      inForce,
      file: this.#options.file,
      fileDiffers: this.#changes.fileDiffers(),
      problems: this.#changes.problems,
      reasons: [...this.#engine.reasons(), ...this.#conditions.values()],
      lastApply,
      stateTroubles: this.#options.state?.troubles() ?? [],
      overrides: this.overrides(),
      intent: this.#engine.intent(),
      table,
      plane: this.#seat.plane.status(),
      now,
      before: this.#samples.before,
      quorums: this.#quorums.found(),
      empty: this.#drains.empty(),
      certificates: certificatesSeen(this.#checker),
    });
  }

  check(request: ConfigRequest): Promise<CheckResult> { return this.#changes.check(request); }
  plan(request: ConfigRequest): Promise<Plan> { return this.#changes.plan(request); }
  apply(request: ConfigRequest): Promise<ApplyResult> { return this.#changes.apply(request); }
  reload(actor: string): Promise<ApplyResult> { return this.#changes.reload(actor); }
  revisions(): readonly Revision[] { return this.#changes.revisions(); }

  rollback(revision: number | null, actor: string): Promise<ApplyResult> {
    return this.#changes.rollback(revision, actor);
  }

  overrides(): readonly OverrideView[] {
    const config = this.config();
    return this.#book.list().map((each) => overrideView(each, config));
  }

  drains(): readonly DrainView[] {
    this.#drains.look();
    return this.#drains.views();
  }

  async override(request: OverrideRequest): Promise<OverrideView> {
    const target = resolveName(request.target, backendNames(this.config()));
    if (request.force !== true) refuseBelowQuorum(this.#engine.intent(), overrideOf({ ...request, target }, this.#env.clock.wallMs()));
    const override = this.#book.add({ ...request, target });
    const what = describeChange(override);
    const { actor, reason, expiresAtMs } = override;
    this.#record("override", target, `${what} by ${actor}`, { reason, expiresAtMs });
    this.#quorums.look();
    await this.#engine.turned();
    return overrideView(override, this.config());
  }

  async clearOverrides(filter: OverrideFilter, actor: string): Promise<readonly OverrideView[]> {
    const known = this.#book.list().map((each) => each.target);
    const names = [...new Set([...backendNames(this.config()), ...known])];
    const target = filter.target === null ? null : resolveName(filter.target, names);
    return this.#cleared(this.#book.clear({ ...filter, target }), actor);
  }

  async removeOverride(id: string, actor: string): Promise<readonly OverrideView[]> {
    return this.#cleared(this.#book.remove(id), actor);
  }

  explain(request: ExplainRequest): Explanation {
    const { table } = this.#engine;
    if (table === null) throw new Failure("SYSTEM", { operation: "explain" }, "no table has been applied yet");
    return answerExplain(table, this.config(), request, this.#env.clock.monotonicNs());
  }

  ring(request: RingRequest): RingReport {
    return answerRing(this.#engine.intent(), request);
  }

  note(kind: EventKind, subject: string, message: string, fields: object = {}): void {
    this.#record(kind, subject, message, fields);
  }

  setCondition(name: string, reason: string | null): void {
    if (reason === null) this.#conditions.delete(name);
    else this.#conditions.set(name, reason);
  }

  bequest(): PlaneBequest | null { return this.#seat.plane.bequest?.() ?? null; }

  close(options: CloseOptions): Promise<void> {
    this.#closing ??= this.#end(options);
    return this.#closing;
  }

  /** No timer, probe or apply of it begins any more. */
  halt(): void {
    this.#cancelHeartbeat?.();
    this.#book.close();
    this.#quorums.stop();
    this.#engine.stop();
    this.#checker.stop();
    this.#health.close();
  }

  async #end(options: CloseOptions): Promise<void> {
    const leaves = options.detach || this.#seat.plane.mode === "proxy";
    this.#record("supervisor", this.instance, options.handedOver === true ? "another process has taken over"
      : leaves ? "the supervisor ends and forwarding with it" : "the supervisor ends; the plane goes on", {});
    this.setCondition("ending", "the supervisor is ending");
    this.halt();
    await this.#withPatience(this.#engine.quiet());
    await this.#seat.close(options);
    this.#events.close();
  }

  // ---- health and overrides

  #lastHealth(): Map<string, BackendHealth> {
    const stored = this.#options.state?.health() ?? null;
    if (stored === null) return new Map();
    const isFresh = this.#env.clock.wallMs() - stored.atMs <= HEALTH_FRESH_MS;
    const counts = isFresh || this.#seat.plane.status().adopted;
    return new Map<string, BackendHealth>(counts ? stored.out : []);
  }

  #hear(transition: HealthTransition): void {
    const heardMs = this.#env.clock.monotonicMs();
    this.#transitions.tell(transition);
    this.#health.keep();
    this.#quorums.look();
    this.#engine.hearVerdict(heardMs);
  }

  /** A doubt changes nothing by itself: it brings the next probe forward, which does. */
  #look(names: readonly string[], reason: string): void {
    for (const name of names) {
      if (!this.#checker.probeNow(name)) continue;
      this.#record("health", name, `is probed at once: ${reason}`, { reason });
      this.#env.log.info({ backend: name }, `${name} is probed at once: ${reason}`);
    }
  }

  #forget(expired: readonly Override[]): void {
    for (const override of expired) {
      const message = `${describeChange(override)} by ${override.actor} has expired`;
      this.#record("override", override.target, message, { id: overrideId(override) });
    }
    this.#quorums.look();
    this.#engine.request();
  }

  async #cleared(removed: readonly Override[], actor: string): Promise<readonly OverrideView[]> {
    for (const override of removed) {
      const message = `${describeChange(override)} by ${override.actor} is cleared by ${actor}`;
      this.#record("override", override.target, message, { id: overrideId(override) });
    }
    this.#quorums.look();
    if (removed.length > 0) await this.#engine.turned();
    return removed.map((each) => overrideView(each, this.config()));
  }

  // ---- the plane, events and time

  #withPatience(done: Promise<void>): Promise<void> {
    return new Promise((resolve) => {
      const cancel = this.#env.clock.after(END_PATIENCE_MS, () => {
        this.#env.log.error({}, "an apply does not end; the supervisor ends without it");
        resolve();
      }, true);
      void done.then(() => {
        cancel();
        resolve();
      });
    });
  }

  #announcePlane(): void {
    const { plane, choice } = this.#seat;
    const { mode, reason, remedy, attempts } = choice;
    const wanted = this.config().dataplane.mode;
    const isFallback = wanted === "auto" && mode === "proxy";
    const adopted = plane.status().adopted;
    const message = `${adopted ? "adopted: " : ""}${reason}`;
    this.#record(isFallback ? "fallback" : "plane", mode, message, { remedy, attempts, adopted });
    this.#env.log.info({ mode, reason, adopted }, "the data plane is open");
  }

  #record(kind: EventKind, subject: string, message: string, fields: object): void {
    this.#events.record(kind, subject, message, { ...fields });
    this.#env.log.debug({ kind, subject, ...fields }, message);
  }

  #beat(): void {
    try {
      this.#seat.plane.heartbeat();
      this.#heartbeatFailed = false;
    } catch (error) {
      if (!this.#heartbeatFailed) this.#env.log.error({ err: error }, "the heartbeat cannot be written");
      this.#heartbeatFailed = true;
    }
    this.#samples.roll();
    this.#quorums.look();
    this.#drains.look();
    // The process lives for as long as its instance does.
    this.#cancelHeartbeat = this.#env.clock.after(HEARTBEAT_MS, () => { this.#beat(); }, true);
  }
}

/** Without its target: the event has that for its subject. */
function describeChange({ change }: Override): string {
  return change.kind === "weight" ? `weight ${change.weight}` : change.kind;
}
