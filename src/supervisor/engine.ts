// The engine of the supervisor: intents → compile → apply → publish, one turn at a time. Knows the plane,
// the checker and the config in force; must never know who asked for a change or how it is shown.
//
// There is one config in force and at most one candidate. A candidate that cannot be applied is tried
// again later, while the one in force goes on following health and overrides.

import { isDeepStrictEqual } from "node:util";
import type { ApplyState, EventKind } from "../api/schemas.ts";
import type { ApplyReport, Dataplane } from "../dataplane/dataplane.ts";
import type { Cancel, Env } from "../env.ts";
import { Failure } from "../errors.ts";
import type { Checker } from "../health/checker.ts";
import { compile } from "../model/compile.ts";
import type { Config } from "../model/config.ts";
import { LedgerFull } from "../model/ledger.ts";
import { nextDeadlineMs } from "../model/slot_changes.ts";
import type { ForwardingTable, Intent, Ledger, Override } from "../model/table.ts";
import { createRingMemo } from "../model/table_ring.ts";
import type { AcceptedConfig } from "./accepted.ts";
import type { ApplyLoop } from "./loop.ts";
import { Backoff, createApplyLoop } from "./loop.ts";
import { whyNewPlane } from "./plane_seat.ts";
import type { PlaneSeat } from "./plane_seat.ts";
import { NO_STANDINGS, standingsOf, standingTargets, type Standings } from "./standings.ts";

export interface EngineOptions {
  readonly env: Env;
  readonly seat: PlaneSeat;
  readonly checker: Checker;
  readonly first: AcceptedConfig;
  readonly overrides: () => readonly Override[];
  readonly record: (kind: EventKind, subject: string, message: string, fields: object) => void;
  /** A config has been applied; `before` is the revision until now. Returns the one from now on. */
  readonly onInForce: (accepted: AcceptedConfig, before: number) => number;
}

export interface InForce {
  readonly accepted: AcceptedConfig;
  /** 0 until it was applied. */
  readonly revision: number;
  readonly loadedAtMs: number;
}

interface Candidate {
  readonly accepted: AcceptedConfig;
  readonly backoff: Backoff;
  isDue: boolean;
  error: string | null;
  /** The first attempt tells whoever asked; later ones have nobody to tell. */
  tell: { resolve(report: ApplyReport): void; reject(error: unknown): void } | null;
}

/** What the last table promised, and whether all of it is there. */
interface Promised {
  readonly ledger: Ledger;
  readonly generation: number;
  isPublished: boolean;
}

export interface EngineTotals {
  compiles: number;
  applies: number;
  applyFailures: number;
  applySeconds: number;
  lastApplySeconds: number;
  ringRebuilds: number;
  lastVerdictSeconds: number | null;
}

/** An apply that runs for longer than this is a reason not to be ready. */
const APPLY_SLOW_MS = 10_000;
/**
 * A window that is due may wait for others for so long, so that a row of changes costs one table when they
 * close and not one each. Slots are changing a little longer then: a few more flows are remembered, and the
 * program, which goes on for WINDOW_SLACK_MS by itself, does not notice.
 */
export const WINDOWS_GATHER_MS = 5_000;

export class Engine {
  readonly #options: EngineOptions;
  readonly #loop: ApplyLoop;
  readonly #memo = createRingMemo();
  readonly #backoff: Backoff;
  #inForce: InForce;
  #candidate: Candidate | null = null;
  #table: ForwardingTable | null = null;
  /** Of the last table that was tried: the plane may hold a part of it, unless it is published. */
  #promised: Promised;
  /** Until the next window closes in which flows are remembered. */
  #cancelWindow: Cancel | null = null;
  #lastApply: ApplyState | null = null;
  #applyingSinceMs: number | null = null;
  /** When the judge spoke first of what no table shows yet (monotonic). */
  #verdictAtMs: number | null = null;
  #unserved: ReadonlyMap<string, string> = new Map();
  /** As the checker was told last: whom it may withhold hangs on who is kept out. */
  #told = NO_STANDINGS;
  readonly totals: EngineTotals = {
    compiles: 0, applies: 0, applyFailures: 0, applySeconds: 0, lastApplySeconds: 0, ringRebuilds: 0,
    lastVerdictSeconds: null,
  };

  constructor(options: EngineOptions) {
    this.#options = options;
    const { clock } = options.env;
    this.#loop = createApplyLoop(clock, () => this.#turn());
    this.#backoff = new Backoff(clock, () => { this.#loop.request(); });
    this.#inForce = { accepted: options.first, revision: 0, loadedAtMs: clock.wallMs() };
    this.#promised = { ledger: options.seat.plane.ledger(), generation: 0, isPublished: true };
    options.seat.onSwept(() => { this.#loop.request(); });
    this.#probe(options.first);
  }

  get inForce(): InForce { return this.#inForce; }
  get table(): ForwardingTable | null { return this.#table; }
  get candidate(): AcceptedConfig | null { return this.#candidate?.accepted ?? null; }

  /** With the time of the next attempt, which moves. */
  get lastApply(): ApplyState | null {
    const retryAtMs = this.#candidate?.backoff.atMs ?? this.#backoff.atMs;
    return this.#lastApply === null ? null : { ...this.#lastApply, retryAtMs };
  }

  /** The judge spoke at this time (monotonic): the next table has to show it. */
  hearVerdict(atMs: number): void {
    this.#verdictAtMs ??= atMs;
    this.#loop.requestSoon();
  }

  /** Something changed that the next compile will see. */
  request(): void { this.#loop.request(); }
  turned(): Promise<void> { return this.#loop.turned(); }
  quiet(): Promise<void> { return this.#loop.quiet(); }

  stop(): void {
    this.#loop.stop();
    this.#backoff.reset();
    this.#candidate?.backoff.reset();
    this.#cancelWindow?.();
    const tell = this.#candidate?.tell ?? null;
    tell?.reject(new Failure("SYSTEM", { operation: "apply" }, "the supervisor is ending"));
  }

  intent(accepted: AcceptedConfig = this.#inForce.accepted): Intent {
    return {
      config: accepted.config,
      hashSeed: accepted.seed.seed,
      overrides: this.#options.overrides(),
      health: this.#options.checker.states(),
      nowMs: this.#options.env.clock.wallMs(),
    };
  }

  /** The table that a config would have now. Promises nothing. Throws MAP_FULL. */
  preview(accepted: AcceptedConfig): ForwardingTable {
    return this.#compile(accepted, this.#options.seat.plane, this.#promised);
  }

  /** Why the plane itself would change, or null. */
  whyNewPlane(accepted: AcceptedConfig): string | null {
    const { mode } = this.#options.seat.plane;
    return whyNewPlane(this.#inForce.accepted.config, accepted.config, mode);
  }

  /** Takes the place of an earlier candidate. Rejects when the first attempt fails; it is tried again. */
  propose(accepted: AcceptedConfig): Promise<ApplyReport> {
    this.#candidate?.backoff.reset();
    return new Promise((resolve, reject) => {
      const candidate: Candidate = {
        accepted,
        isDue: true,
        error: null,
        tell: { resolve, reject },
        backoff: new Backoff(this.#options.env.clock, () => {
          candidate.isDue = true;
          this.#loop.request();
        }),
      };
      this.#candidate = candidate;
      this.#loop.request();
    });
  }

  /** What keeps the forwarding from being what was asked for. */
  reasons(): string[] {
    const reasons: string[] = [];
    if (this.#table === null) reasons.push("no table has been applied yet");
    if (this.#candidate !== null && this.#candidate.error !== null) {
      reasons.push(`a new config cannot be applied: ${this.#candidate.error}`);
    } else if (this.#lastApply?.error !== undefined && this.#lastApply.error !== null) {
      reasons.push(`the last apply failed: ${this.#lastApply.error}`);
    }
    const since = this.#applyingSinceMs;
    const nowMs = this.#options.env.clock.monotonicMs();
    if (since !== null && nowMs - since > APPLY_SLOW_MS) {
      reasons.push(`an apply has been running for ${Math.round((nowMs - since) / 1000)} s`);
    }
    for (const [service, reason] of this.#options.seat.plane.status().failed) {
      reasons.push(`service ${service} is not served: ${reason}`);
    }
    return reasons;
  }

  async #turn(): Promise<void> {
    const candidate = this.#candidate;
    if (candidate?.isDue === true) {
      candidate.isDue = false;
      if (await this.#tryCandidate(candidate)) return;
    }
    await this.#applyInForce();
  }

  async #applyInForce(): Promise<void> {
    const { accepted } = this.#inForce;
    try {
      if (!isDeepStrictEqual(this.#standings(accepted.config), this.#told)) this.#probe(accepted);
      const report = await this.#apply(accepted, null);
      if (this.#inForce.revision === 0) this.#putInForce(accepted);
      this.#settleServices(report);
    } catch (error) {
      const delayMs = this.#backoff.fail();
      this.#recordFailure(accepted, error, delayMs);
    }
  }

  /** True when it is in force now. */
  async #tryCandidate(candidate: Candidate): Promise<boolean> {
    const { accepted, tell } = candidate;
    candidate.tell = null;
    try {
      const report = await this.#apply(accepted, this.whyNewPlane(accepted));
      if (this.#candidate === candidate) this.#candidate = null;
      candidate.backoff.reset();
      this.#putInForce(accepted);
      this.#settleServices(report);
      tell?.resolve(report);
      return true;
    } catch (error) {
      candidate.error = messageOf(error);
      // Another one may have been proposed meanwhile; this one is then over.
      const delayMs = this.#candidate === candidate ? candidate.backoff.fail() : null;
      this.#recordFailure(accepted, error, delayMs);
      tell?.reject(error);
      return false;
    }
  }

  #putInForce(accepted: AcceptedConfig): void {
    const revision = this.#options.onInForce(accepted, this.#inForce.revision);
    this.#inForce = { accepted, revision, loadedAtMs: this.#options.env.clock.wallMs() };
    this.#probe(accepted);
  }

  #probe({ config }: AcceptedConfig): void {
    const { checker, seat } = this.#options;
    const before = checker.states();
    const told = this.#told;
    this.#told = this.#standings(config);
    const targets = standingTargets(config, seat.plane.mode, this.#told, told);
    checker.update(targets);
    if (this.#table === null) return;
    if (targets.every(({ through }) => through.length === 0)) seat.plane.endProbes();
    // A backend that moved is not what the probes of its old address said.
    if (!isDeepStrictEqual(checker.states(), before)) this.#loop.request();
  }

  #standings(config: Config): Standings { return standingsOf(config, this.#options.overrides(), this.#options.env.clock.wallMs()); }

  async #apply(accepted: AcceptedConfig, newPlane: string | null): Promise<ApplyReport> {
    const { env, seat } = this.#options;
    const startedMs = env.clock.monotonicMs();
    this.#applyingSinceMs = startedMs;
    const verdictAtMs = this.#verdictAtMs;
    this.#verdictAtMs = null;
    const compileOn = (plane: Dataplane, promised: Promised): ForwardingTable => {
      const table = this.#compile(accepted, plane, promised);
      this.#promised = { ledger: table.ledger, generation: table.generation, isPublished: false };
      return table;
    };
    try {
      if (newPlane === null) {
        await seat.plane.reclaim?.();
        const table = compileOn(seat.plane, this.#promised);
        const report = await seat.plane.apply(table);
        this.#publish(table, report, startedMs, verdictAtMs);
        return report;
      }
      const before = this.#inForce.accepted.config;
      const { table, report } = await seat.replace(accepted.config, before, (plane) =>
        compileOn(plane, { ...this.#promised, ledger: plane.ledger(), isPublished: true }));
      const { mode, reason, remedy, attempts } = seat.choice;
      const isFallback = accepted.config.dataplane.mode === "auto" && mode === "proxy";
      const message = `the data plane was replaced (${newPlane}): ${reason}`;
      this.#options.record(isFallback ? "fallback" : "plane", mode, message, { remedy, attempts });
      this.#publish(table, report, startedMs, verdictAtMs);
      return report;
    } catch (error) {
      this.#verdictAtMs = verdictAtMs ?? this.#verdictAtMs;
      throw error;
    } finally {
      this.#applyingSinceMs = null;
    }
  }

  #compile(accepted: AcceptedConfig, plane: Dataplane, promised: Promised): ForwardingTable {
    this.totals.compiles += 1;
    const { ledger, generation, isPublished } = promised;
    const nowMs = this.#options.env.clock.monotonicMs();
    const sweeps = plane.sweeps?.() ?? null;
    const shown = isPublished ? ledger : plane.ledger(generation + 1);
    try {
      return compile({ ...this.intent(accepted), plane: plane.mode }, {
        ledger, generation, ...(sweeps === null ? {} : { changes: { nowMs, shown, sweeps } }),
      }, this.#memo);
    } catch (error) {
      if (!(error instanceof LedgerFull)) throw error;
      const { what, entriesMax } = error;
      const limit = what === "destinations" ? "limits.backends" : "limits.services";
      throw new Failure("MAP_FULL", { map: what, entriesMax }, `${error.message}: raise ${limit}`, error);
    }
  }

  #publish(
    table: ForwardingTable, report: ApplyReport, startedMs: number, verdictAtMs: number | null,
  ): void {
    const { clock, log } = this.#options.env;
    const nowMs = clock.monotonicMs();
    const durationMs = nowMs - startedMs;
    const sinceVerdictMs = verdictAtMs === null ? null : nowMs - verdictAtMs;
    if (sinceVerdictMs !== null) this.totals.lastVerdictSeconds = sinceVerdictMs / 1000;
    this.totals.applies += 1;
    this.totals.applySeconds += durationMs / 1000;
    this.totals.lastApplySeconds = durationMs / 1000;
    const rings = new Map(this.#table?.services.map((each) => [each.name, each.ring.key]));
    const rebuilt = table.services.filter((each) => rings.get(each.name) !== each.ring.key);
    this.totals.ringRebuilds += rebuilt.length;
    this.#tellWarnings(table);
    this.#table = table;
    this.#promised.isPublished = true;
    this.#awaitWindows(table);
    const { steps } = report;
    this.#lastApply = { atMs: clock.wallMs(), durationMs, steps, generation: table.generation, error: null, retryAtMs: null };
    const fields = { generation: table.generation, steps: report.steps, durationMs, sinceVerdictMs };
    const names = rebuilt.map((each) => each.name);
    if (report.steps === 0) {
      log.debug(fields, "nothing to apply");
      return;
    }
    this.#options.record("apply", "table", `applied ${report.steps} steps`, { ...fields, rings: names });
  }

  /** Slots whose windows have closed are to be settled, several windows' at once. */
  #awaitWindows({ services }: ForwardingTable): void {
    const { clock } = this.#options.env;
    this.#cancelWindow?.();
    const nextMs = nextDeadlineMs(services);
    const laterMs = Math.max(0, nextMs - clock.monotonicMs()) + WINDOWS_GATHER_MS;
    this.#cancelWindow = nextMs === Infinity ? null : clock.after(laterMs, () => { this.#loop.request(); });
  }

  #tellWarnings(table: ForwardingTable): void {
    const known = new Set(this.#table?.warnings);
    for (const warning of table.warnings) {
      if (!known.has(warning)) this.#options.env.log.warn({}, warning);
    }
  }

  #recordFailure(accepted: AcceptedConfig, error: unknown, retryMs: number | null): void {
    const { env, record } = this.#options;
    const message = messageOf(error);
    this.totals.applyFailures += 1;
    this.#lastApply = {
      atMs: env.clock.wallMs(), durationMs: 0, steps: 0, generation: this.#promised.generation,
      error: message, retryAtMs: null,
    };
    const next = retryMs === null ? "" : `; next attempt in ${retryMs / 1000} s`;
    env.log.error({ err: error, file: accepted.file, retryMs }, "apply failed");
    record("apply", "table", `apply failed, the last good table stays: ${message}${next}`, { retryMs });
  }

  /** Services that came and went, and another attempt for as long as some cannot be served. */
  #settleServices(report: ApplyReport): void {
    const { record } = this.#options;
    for (const [service, reason] of report.failed) {
      if (this.#unserved.get(service) === reason) continue;
      record("plane", service, `cannot be served: ${reason}`, {});
    }
    for (const service of this.#unserved.keys()) {
      if (!report.failed.has(service)) record("plane", service, "is served now", {});
    }
    this.#unserved = report.failed;
    if (report.failed.size > 0) this.#backoff.fail();
    else this.#backoff.reset();
  }
}

export function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
