// A checker that is a list of states, for what is laid over it, with targets of one address each. Time is fake.
// Knows the door of a Checker only.

import type { Checker, CheckerOptions, HealthTransition, ProbeRecord } from "../../src/health/checker.ts";
import type { FeedbackOptions } from "../../src/health/feedback.ts";
import { statusOf, type MakeChecker } from "../../src/health/layer.ts";
import type { ProbeTarget } from "../../src/health/target.ts";
import { parseAddress } from "../../src/model/address.ts";
import type { Health } from "../../src/model/health_check.ts";
import { ADMISSION_MAX, type BackendHealth } from "../../src/model/table.ts";
import { createFakeEnv } from "./fake_env.ts";

export const UP: BackendHealth = { alive: true, known: true, admission: ADMISSION_MAX, reason: "connected", sinceMs: 0 };
export const DOWN: BackendHealth = { ...UP, alive: false, admission: 0, reason: "timeout" };

export function target(name: string, health: Health, address = "10.0.0.1"): ProbeTarget {
  const [pool = "", backend = ""] = name.split("/");
  return { name, pool, backend, address: parseAddress(address)!, port: 80, health, through: [] };
}

export class LayerWorld {
  readonly env = createFakeEnv();
  readonly told: HealthTransition[] = [];
  steps = 0;
  /** How long the probes of each took, by "pool/backend". */
  readonly times = new Map<string, number>();
  /** How long each took to answer clients, by "pool/backend". */
  readonly answers = new Map<string, number>();
  /** How long each took to answer what began their flows, by "pool/backend". */
  readonly handshakes = new Map<string, number>();
  #states: ReadonlyMap<string, BackendHealth> = new Map();
  #hear: CheckerOptions["onTransition"] = () => undefined;
  readonly checker: Checker;

  /** `lay`: makes the layers over what it is given. */
  constructor(lay: (options: FeedbackOptions, make: MakeChecker) => Checker) {
    const options = {
      env: this.env, probe: () => Promise.reject(new Error("nobody probes here")),
      onTransition: (transition: HealthTransition) => { this.told.push(transition); }, onStep: () => { this.steps += 1; },
      clients: {
        answerMs: (name: string) => this.answers.get(name) ?? null, handshakeMs: (name: string) => this.handshakes.get(name) ?? null,
      },
    };
    this.checker = lay(options, ({ onTransition }) => {
      this.#hear = onTransition;
      const none = { running: 0, waiting: 0, started: 0, succeeded: 0, failed: 0, inconclusive: 0, delayed: 0 };
      return {
        update: (targets) => { this.#states = new Map(targets.map(({ name }) => [name, this.#states.get(name) ?? UP])); },
        states: () => this.#states, probeNow: () => true, records: (name) => this.#records(name), counts: () => none,
        hearFlows: () => undefined, flowTotals: () => new Map(), stop: () => undefined,
      };
    });
  }

  #records(name: string): ProbeRecord[] {
    const durationMs = this.times.get(name);
    return durationMs === undefined ? [] : Array.from({ length: 20 }, () =>
      ({ ok: true, conclusive: true, reason: "connected", durationMs, atMs: 0 }));
  }

  turns(name: string, health: BackendHealth): void {
    const before = this.#states.get(name)!;
    this.#states = new Map([...this.#states, [name, health]]);
    const [pool = "", backend = ""] = name.split("/");
    this.#hear({ from: statusOf(before), to: statusOf(health), reason: health.reason, atMs: 0, name, pool, backend, health, probes: [] });
  }

  state(name: string): BackendHealth | undefined { return this.checker.states().get(name); }

  /** Of its admission, in percent. */
  share(name: string): number {
    return Math.round(((this.state(name)?.admission ?? -1) * 100) / ADMISSION_MAX);
  }
}
