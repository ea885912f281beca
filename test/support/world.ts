// One host in a simulated world: time, files and chance of a fake Env, pinned state that outlives its
// supervisors, backends that answer probes or do not. Knows the supervisor's door only.

import { Failure } from "../../src/errors.ts";
import { createChecker } from "../../src/health/checker.ts";
import { createDamping } from "../../src/health/damping.ts";
import { createFeedback } from "../../src/health/feedback.ts";
import { createOutliers } from "../../src/health/outliers.ts";
import { createSlowStart } from "../../src/health/slow_start.ts";
import type { Certificate, Outcome } from "../../src/health/judge.ts";
import type { ProbeTarget } from "../../src/health/target.ts";
import type { Config } from "../../src/model/config.ts";
import type { OpenedPlane, Supervisor } from "../../src/supervisor/contract.ts";
import { parseOrThrow } from "../../src/supervisor/accepted.ts";
import type { StateDirectory } from "../../src/supervisor/state.ts";
import { openStateDirectory } from "../../src/supervisor/state.ts";
import { createSupervisor } from "../../src/supervisor/supervisor.ts";
import type { ConfigSketch } from "./configs.ts";
import { parseSketch, sketchText } from "./configs.ts";
import type { Cancel, Env } from "../../src/env.ts";
import type { FakeEnv } from "./fake_env.ts";
import { createFakeEnv } from "./fake_env.ts";
import type { Pinned } from "./simulated_plane.ts";
import { noPins, SimulatedPlane } from "./simulated_plane.ts";

export const FILE = "/etc/pointsman/pointsman.yaml";
export const STATE = "/var/lib/pointsman/main";

export class World {
  readonly env: FakeEnv;
  /** "pool/backend" that refuse connections. */
  readonly dead = new Set<string>();
  /** "pool/backend" that answer, and ask for a drain. */
  readonly leaving = new Set<string>();
  /** "pool/backend" whose answers to probes take so long, in milliseconds; the others' take 1. */
  readonly slow = new Map<string, number>();
  /** What probes are shown, as over TLS. */
  certificate: Certificate | null = null;
  /** "pool/backend" that say nothing at all, so that a probe lasts until its timeout. */
  readonly silent = new Set<string>();
  readonly pinned: Pinned = noPins();
  readonly planes: SimulatedPlane[] = [];
  readonly setAside: string[] = [];
  /** Why XDP cannot be used; null: it can. */
  noXdp: string | null = null;
  /** XDP planes walk over their flows. */
  walks = false;
  /** So many applies of the next plane fail. */
  failures = 0;
  /** The state directory refuses every write with this message, or null. */
  stateRefuses: string | null = null;
  /** Planes cannot tell their status. */
  statusFails = false;
  /** The next opening of a plane fails. */
  openFails: Error | null = null;
  #supervisor: Supervisor | null = null;
  #life: Life | null = null;

  constructor(seed = 1) {
    this.env = createFakeEnv({ seed });
  }

  get supervisor(): Supervisor {
    if (this.#supervisor === null) throw new Error("nobody supervises this world");
    return this.#supervisor;
  }

  get plane(): SimulatedPlane {
    const plane = this.planes.at(-1);
    if (plane === undefined) throw new Error("no plane was opened");
    return plane;
  }

  write(sketch: ConfigSketch): void {
    this.env.files.writeAtomic(FILE, sketchText(sketch), 0o644);
  }

  state(): StateDirectory {
    return openStateDirectory(STATE, this.env, (message) => { this.setAside.push(message); });
  }

  /** Runs the config of the file, or of the argument, which is written there first. */
  async start(sketch: ConfigSketch | null = null): Promise<Supervisor> {
    if (sketch !== null) this.write(sketch);
    const bytes = this.env.files.read(FILE);
    if (bytes === null) throw new Error("there is no config to start with");
    const life = new Life(this.env, (path) => {
      if (this.stateRefuses !== null && path.startsWith(STATE)) throw new Error(this.stateRefuses);
    });
    const { env } = life;
    this.#life = life;
    this.#supervisor = await createSupervisor({
      env,
      version: "0.0.0",
      state: openStateDirectory(STATE, env, (message) => { this.setAside.push(message); }),
      parse: parseSketch,
      openPlane: (config) => this.#open(config),
      startChecker: (initial, onTransition, connectThrough, onStep, clients) => createSlowStart({
        env, initial, onTransition, onStep,
        probe: (target) => {
          for (const place of target.through) connectThrough(place);
          return this.#probe(target);
        },
      }, (below) => createFeedback({ ...below, onStep, clients },
        (next) => createDamping(next, (last) => createOutliers(last, createChecker)))),
      file: FILE,
      first: await parseOrThrow(FILE, bytes, parseSketch),
    });
    return this.#supervisor;
  }

  /** kill -9: whatever the old supervisor still does has no effect any more; what is pinned stays. */
  kill(): void {
    this.#supervisor = null;
    this.#life?.end();
    this.planes.at(-1)?.abandon();
  }

  /** Lets time pass and everything that is due then settle. */
  async pass(ms: number): Promise<void> {
    await this.env.advance(ms);
  }

  #probe({ name, health }: ProbeTarget): Promise<Outcome> {
    if (this.silent.has(name) && health.type !== "none") {
      const durationMs = health.timeoutMs;
      const outcome = { ok: false, conclusive: true, reason: "timeout", durationMs };
      return new Promise((resolve) => {
        this.env.clock.after(durationMs, () => { resolve(outcome); });
      });
    }
    return Promise.resolve(this.dead.has(name)
      ? { ok: false, conclusive: true, reason: "connection refused", durationMs: 1 }
      : { ok: true, conclusive: true, reason: "connected", durationMs: this.slow.get(name) ?? 1, ...(this.leaving.has(name) ? { drains: true } : {}),
        ...(this.certificate === null ? {} : { certificate: this.certificate }) });
  }

  #open(config: Config): Promise<OpenedPlane> {
    if (this.openFails !== null) {
      const error = this.openFails;
      this.openFails = null;
      return Promise.reject(error);
    }
    const isXdp = config.dataplane.mode !== "proxy" && this.noXdp === null;
    const plane = isXdp
      ? new SimulatedPlane({ mode: "xdp", pinned: this.pinned, walks: this.walks }) : new SimulatedPlane({ mode: "proxy" });
    if (this.statusFails) plane.status = () => { throw new Error("status cannot be read"); };
    plane.failures = this.failures;
    this.failures = 0;
    this.planes.push(plane);
    const reason = isXdp ? "XDP can be used" : this.noXdp ?? "dataplane.mode is proxy";
    return Promise.resolve({
      plane, choice: { mode: plane.mode, reason, remedy: isXdp ? null : "use a NIC", attempts: [] },
    });
  }
}

/** The Env of one process: after its end no timer fires and no file changes. */
class Life {
  readonly env: Env;
  readonly #timers = new Set<Cancel>();
  #isOver = false;

  /** `judge` throws for a path that may not be written. */
  constructor(world: FakeEnv, judge: (path: string) => void) {
    const unlessOver = <A extends unknown[], R>(act: (...args: A) => R, otherwise: R) =>
      (...args: A): R => (this.#isOver ? otherwise : act(...args));
    const { clock, files } = world;
    this.env = {
      ...world,
      clock: {
        wallMs: () => clock.wallMs(),
        monotonicMs: () => clock.monotonicMs(),
        monotonicNs: () => clock.monotonicNs(),
        after: unlessOver((delayMs: number, callback: () => void) => {
          const cancel = clock.after(delayMs, () => {
            this.#timers.delete(cancel);
            callback();
          });
          this.#timers.add(cancel);
          return cancel;
        }, () => undefined),
      },
      files: {
        ...files,
        writeAtomic: unlessOver((path: string, bytes: Uint8Array | string, mode: number) => {
          judge(path);
          files.writeAtomic(path, bytes, mode);
        }, undefined),
        createExclusive: unlessOver(files.createExclusive, false),
        append: unlessOver(files.append, undefined),
        remove: unlessOver(files.remove, undefined),
      },
    };
  }

  end(): void {
    this.#isOver = true;
    for (const cancel of this.#timers) cancel();
  }
}

/** A config as a client sends it. */
export function request(sketch: ConfigSketch): { name: string; text: string; actor: string } {
  return { name: "given.yaml", text: sketchText(sketch), actor: "ann" };
}

/** What the events of this life say. */
export function messages(world: World): string[] {
  return world.supervisor.events.since(0).map((each) => each.message);
}

/** What a promise fails with; anything else is an error of the test. */
export async function failureOf(promise: Promise<unknown>): Promise<Failure> {
  const error: unknown = await promise.then(() => null, (reason: unknown) => reason);
  if (!(error instanceof Failure)) throw new Error(`no failure but ${String(error)}`);
  return error;
}

/** -1: no such backend. */
export function slotsOf(world: World, backend: string): number {
  return world.supervisor.status().backends.find((each) => each.name === backend)?.slots ?? -1;
}
