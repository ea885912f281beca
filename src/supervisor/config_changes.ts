// From somebody's bytes to the config in force: check, plan, apply, reload, rollback and their revisions,
// one at a time. Knows the engine and the `run` file; must never touch a plane but to ask for its plan.

import type {
  ApplyResult, CheckResult, ConfigRequest, EventKind, Plan, ProblemView, Revision,
} from "../api/schemas.ts";
import type { ApplyReport, Counters } from "../dataplane/dataplane.ts";
import type { Env } from "../env.ts";
import { Failure, isFailure } from "../errors.ts";
import type { AcceptedConfig, Origin } from "./accepted.ts";
import {
  acceptConfig, laterSettings, parseOrThrow, refuseOtherInstance, requestBytes, warningsFor,
} from "./accepted.ts";
import type { Parse } from "./contract.ts";
import type { Engine } from "./engine.ts";
import { messageOf } from "./engine.ts";
import { movedFlows, movements } from "./movements.ts";
import { readRegions, regionsChanged } from "./geo_databases.ts";
import type { PlaneSeat } from "./plane_seat.ts";
import type { StateDirectory } from "./state.ts";
import { sha256 } from "./state.ts";

export interface ConfigChangesOptions {
  readonly env: Env;
  readonly instance: string;
  readonly engine: Engine;
  readonly seat: PlaneSeat;
  readonly parse: Parse;
  readonly state: StateDirectory | null;
  /** What `reload` reads, or null. */
  readonly file: string | null;
  readonly counters: () => Counters;
  readonly record: (kind: EventKind, subject: string, message: string, fields: object) => void;
}

/** The parser names the limit; a file far beyond it is not even read. */
const FILE_BYTES_MAX = 64 * 1024 * 1024;

export class ConfigChanges {
  readonly #options: ConfigChangesOptions;
  #problems: readonly ProblemView[] = [];
  #fileSeen: { readonly bytes: Uint8Array; readonly sha256: string } | null = null;
  #changing: Promise<unknown> = Promise.resolve();
  /** Of the config in force, told to the log. */
  #warned: ReadonlySet<string> = new Set();
  readonly counts = { reloads: 0, reloadsRefused: 0 };

  constructor(options: ConfigChangesOptions) {
    this.#options = options;
  }

  /** Of the last config that was refused; none after a good one. */
  get problems(): readonly ProblemView[] { return this.#problems; }

  async check(request: ConfigRequest): Promise<CheckResult> {
    const parsed = await this.#options.parse(request.name, requestBytes(request));
    const problems = "config" in parsed ? parsed.warnings : parsed.problems;
    return { valid: "config" in parsed, problems: [...problems] };
  }

  async plan(request: ConfigRequest): Promise<Plan> {
    const origin: Origin = { actor: request.actor, what: "plan" };
    return this.#plan(await this.#accept(request.name, requestBytes(request), origin));
  }

  apply(request: ConfigRequest): Promise<ApplyResult> {
    const origin: Origin = { actor: request.actor, what: "apply" };
    return this.#oneByOne(() => this.#change(request.name, requestBytes(request), origin));
  }

  reload(actor: string): Promise<ApplyResult> {
    this.counts.reloads += 1;
    return this.#oneByOne(async () => {
      try {
        const { file } = this.#options;
        if (file === null) {
          throw new Failure("REQUEST_INVALID", { path: "file" },
            "this instance was started without a file: use apply");
        }
        const origin: Origin = { actor, what: "reload" };
        return await this.#change(file, this.#readForReload(file, origin), origin);
      } catch (error) {
        this.counts.reloadsRefused += 1;
        throw error;
      }
    });
  }

  rollback(revision: number | null, actor: string): Promise<ApplyResult> {
    return this.#oneByOne(async () => {
      const { engine, state } = this.#options;
      const { inForce, candidate } = engine;
      const back = (to: number): Origin => ({ actor, what: `rollback to ${to}` });
      if (revision === null && candidate !== null) {
        // The way back from a config that was never in force.
        const { file, bytes } = inForce.accepted;
        return this.#change(file, bytes, back(inForce.revision));
      }
      const others = this.revisions().filter((each) => !each.current);
      const number = revision ?? others[0]?.revision ?? null;
      if (state === null || number === null) {
        throw new Failure("UNKNOWN_REVISION", { revision: number ?? 0 },
          "there is no earlier revision to go back to");
      }
      const stored = state.revision(number);
      return this.#change(stored.meta.file, stored.bytes, back(number));
    });
  }

  revisions(): readonly Revision[] {
    const { revision } = this.#options.engine.inForce;
    const stored = this.#options.state?.revisions() ?? [];
    return stored.map((each) => ({ ...each, current: each.revision === revision }));
  }

  /** A config has been applied: gives it its number. */
  keepRevision(accepted: AcceptedConfig, before: number): number {
    const { bytes, file, origin } = accepted;
    const { env, state, record } = this.#options;
    const { actor, what } = origin;
    this.#tellWarnings(accepted);
    let revision = before + 1;
    try {
      const atMs = env.clock.wallMs();
      revision = state?.record({ bytes, file, actor, origin: what, atMs }).revision ?? revision;
    } catch (error) {
      // Forwarding goes first: a full disk costs the way back, not the way on.
      env.log.error({ err: error }, "the revision cannot be kept");
    }
    if (revision !== before) {
      const message = `revision ${revision} is in force (${what} by ${actor})`;
      record("config", file, message, { actor, origin: what, revision });
      env.log.info({ file, actor, origin: what, revision }, message);
    }
    return revision;
  }

  #tellWarnings(accepted: AcceptedConfig): void {
    const { env, seat } = this.#options;
    const now = warningsFor(accepted, seat.plane.mode);
    for (const warning of now) {
      if (!this.#warned.has(warning)) env.log.warn({ file: accepted.file }, warning);
    }
    this.#warned = new Set(now);
  }

  /** Null when there is no file to compare with. */
  fileDiffers(): boolean | null {
    const { file, engine } = this.#options;
    if (file === null) return null;
    try {
      const bytes = this.#readFile(file);
      if (this.#fileSeen === null || Buffer.compare(this.#fileSeen.bytes, bytes) !== 0) {
        this.#fileSeen = { bytes, sha256: sha256(bytes) };
      }
      return this.#fileSeen.sha256 !== engine.inForce.accepted.sha256;
    } catch {
      return true; // it is gone, or may not be read
    }
  }

  async #accept(name: string, bytes: Uint8Array, origin: Origin): Promise<AcceptedConfig> {
    const { env, parse, state, engine } = this.#options;
    const parsed = await parseOrThrow(name, bytes, parse);
    const { config, warnings } = await readRegions(parsed.config, name, env, engine.inForce.accepted.config);
    for (const { path, reason } of origin.what === "plan" ? [] : warnings)
      this.#options.record("config", name, `${path}: ${reason}`, { actor: origin.actor });
    const located = { ...parsed, config, warnings: [...parsed.warnings, ...warnings] };
    return acceptConfig(located, origin, { env, state, seedInUse: engine.inForce.accepted.seed.seed });
  }

  #plan(accepted: AcceptedConfig): Plan {
    const { engine, seat, instance, counters } = this.#options;
    refuseOtherInstance(accepted, instance);
    const before = engine.table;
    const after = engine.preview(accepted);
    const replacesPlane = engine.whyNewPlane(accepted);
    const steps = replacesPlane === null
      ? seat.plane.plan(after).map((each) => ({ ...each }))
      : [{ action: "replace", object: "data plane", detail: replacesPlane }];
    const services = movements(before, after, seat.plane.mode);
    return {
      changed: steps.length > 0 || services.some((each) => each.change !== "unchanged"),
      steps,
      services,
      flows: movedFlows(before, after, counters(), seat.plane.mode),
      replacesPlane,
      warnings: [
        ...warningsFor(accepted, seat.plane.mode),
        ...after.warnings,
        ...laterSettings(engine.inForce.accepted.config, accepted.config),
      ],
    };
  }

  async #change(name: string, bytes: Uint8Array, origin: Origin): Promise<ApplyResult> {
    const { engine } = this.#options;
    let accepted: AcceptedConfig;
    let plan: Plan;
    try {
      accepted = await this.#accept(name, bytes, origin);
      plan = this.#plan(accepted);
    } catch (error) {
      this.#refuse(name, origin, error);
      throw error;
    }
    const before = engine.inForce.accepted.config;
    const report = await this.#propose(accepted);
    for (const { service, message } of regionsChanged(before, accepted.config)) this.#options.record("config", service, message, {});
    this.#problems = [];
    return {
      revision: engine.inForce.revision,
      changed: plan.changed,
      plan,
      steps: report.steps,
      durationMs: report.durationMs,
      failed: [...report.failed].map(([service, reason]) => ({ service, reason })),
      warnings: plan.warnings,
    };
  }

  async #propose(accepted: AcceptedConfig): Promise<ApplyReport> {
    try {
      return await this.#options.engine.propose(accepted);
    } catch (error) {
      if (!(error instanceof Failure)) throw error;
      throw new Failure(error.code, error.details, `${error.message} (the last good config stays in force;`
        + " this one is tried again, until another is applied or rollback drops it)", error);
    }
  }

  #refuse(name: string, origin: Origin, error: unknown): void {
    this.#problems = isFailure(error, "CONFIG_INVALID") ? error.details.problems : [];
    const { what, actor } = origin;
    const outcome = `refused, nothing changed: ${messageOf(error)}`;
    this.#options.env.log.error({ actor }, `${what} of ${name} ${outcome}`);
    this.#options.record("config", name, `${what} ${outcome}`, { actor });
  }

  #readForReload(file: string, origin: Origin): Uint8Array {
    try {
      return this.#readFile(file);
    } catch (error) {
      this.#refuse(file, origin, error);
      throw error;
    }
  }

  #readFile(file: string): Uint8Array {
    const { files } = this.#options.env;
    let bytes: Uint8Array | null;
    try {
      const size = files.size(file);
      if (size !== null && size > FILE_BYTES_MAX) throw new RangeError(`it has ${size} bytes`);
      bytes = files.read(file);
    } catch (error) {
      throw new Failure("FILE_UNREADABLE", { path: file },
        `${file} cannot be read: ${messageOf(error)}`, error);
    }
    if (bytes !== null) return bytes;
    throw new Failure("FILE_UNREADABLE", { path: file }, `${file} cannot be read: there is no such file`);
  }

  #oneByOne<T>(change: () => Promise<T>): Promise<T> {
    const turn = this.#changing.then(change);
    this.#changing = turn.catch(() => undefined);
    return turn;
  }
}
