// Probes that backends share, against backends that are judged one by one: whatever is reloaded and whatever servers
// answer, each backend has the verdict that its own judge makes of all that was heard of its target.

import fc from "fast-check";
import { expect, it } from "vitest";
import { createChecker, type Checker, type HealthTransition } from "../../src/health/checker.ts";
import { judge, unjudged, type JudgeState, type Outcome } from "../../src/health/judge.ts";
import { statusOf } from "../../src/health/layer.ts";
import type { Probe } from "../../src/health/schedule.ts";
import type { ProbeTarget } from "../../src/health/target.ts";
import type { Health, TcpHealth } from "../../src/model/health_check.ts";
import { assertPropertyAsync } from "../support/counts.ts";
import { createFakeEnv } from "../support/fake_env.ts";
import { target } from "../support/layer_world.ts";

const TCP: TcpHealth = { type: "tcp", intervalMs: 1000, timeoutMs: 400, rise: 2, fall: 3, jitter: 0, port: null, via: "direct", source: null };
/** Those with the same letter ask the same. */
const HEALTHS: readonly (readonly [string, Health])[] = [
  ["a", TCP], ["a", { ...TCP, slowStartMs: 9000 }], ["a", { ...TCP, port: 80 }], ["b", { ...TCP, rise: 1, fall: 1 }],
  ["c", { ...TCP, fastIntervalMs: 200, downIntervalMs: 5000 }], ["d", { ...TCP, jitter: 0.5 }], ["", { type: "none" }],
];
const NAMES = ["one/x", "two/x", "three/x", "four/x", "four/y"];
const PLACES = ["10.0.0.1", "10.0.0.2"];
type Answer = "up" | "down" | "drains" | "fault";

interface Wish { readonly name: string; readonly place: string; readonly health: number }
type Step =
  | { readonly do: "reload"; readonly wishes: readonly Wish[] } | { readonly do: "doubt"; readonly name: string }
  | { readonly do: "answer"; readonly place: string; readonly answer: Answer } | { readonly do: "pass"; readonly ms: number };

const wishes = fc.uniqueArray(fc.record({
  name: fc.constantFrom(...NAMES), place: fc.constantFrom(...PLACES), health: fc.nat(HEALTHS.length - 1),
}), { selector: ({ name }) => name });
const steps = fc.array(fc.oneof(
  { weight: 3, arbitrary: fc.record({ do: fc.constant("reload" as const), wishes }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant("pass" as const), ms: fc.integer({ min: 1, max: 6000 }) }) },
  { weight: 2, arbitrary: fc.record({ do: fc.constant("answer" as const), place: fc.constantFrom(...PLACES),
    answer: fc.constantFrom<Answer[]>("up", "down", "down", "drains", "fault") }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant("doubt" as const), name: fc.constantFrom(...NAMES) }) },
), { maxLength: 25 });

/** What is asked of whom, said without the code that is tried; "" where nothing is. */
function questionOf(address: string, health: Health): string {
  const letter = HEALTHS.find(([, each]) => each === health)?.[0] ?? "";
  return letter === "" ? "" : `${address} ${letter}`;
}

interface Judged { readonly place: string; readonly question: string; readonly health: Health; state: JudgeState; isAnswered: boolean }

/** Each backend with a judge of its own. */
class Judges {
  byName = new Map<string, Judged>();

  update(targets: readonly ProbeTarget[], nowMs: number): void {
    const before = this.byName;
    this.byName = new Map(targets.map(({ name, address, health }) => {
      const question = questionOf(address.text, health);
      const old = before.get(name);
      const judged = { place: address.text, question, health };
      if (old?.place === address.text && (old.question === "") === (question === "")) {
        const isSame = old.question === question;
        return [name, { ...judged, state: isSame ? old.state : { ...old.state, streak: 0 }, isAnswered: isSame && old.isAnswered }];
      }
      const known = [...before.values()].find((each) => each.question === question && each.isAnswered);
      return [name, { ...judged, state: known?.state ?? unjudged(nowMs), isAnswered: known !== undefined }];
    }));
  }

  hear(question: string, outcome: Outcome, nowMs: number): void {
    for (const each of this.byName.values()) {
      if (each.question !== question || each.health.type === "none") continue;
      each.state = judge(each.state, outcome, each.health, nowMs).state;
      if (outcome.conclusive && each.state.status !== "unknown") each.isAnswered = true;
    }
  }
}

class Trial {
  readonly env = createFakeEnv();
  readonly judges = new Judges();
  readonly answers = new Map<string, Answer>();
  /** Questions under way. */
  readonly running = new Map<string, number>();
  started: string[] = [];
  /** The last word about each backend. */
  readonly said = new Map<string, string>();
  readonly shared: Checker;
  /** One checker for each backend, which shares with nobody. */
  readonly alone: ReadonlyMap<string, Checker>;

  constructor() {
    const hear = ({ name, to }: HealthTransition): void => { this.said.set(name, to); };
    this.shared = createChecker({ env: this.env, probe: this.#probe(true), onTransition: hear });
    this.alone = new Map(NAMES.map((name) =>
      [name, createChecker({ env: this.env, probe: this.#probe(false), onTransition: () => undefined })]));
  }

  #probe(isShared: boolean): Probe {
    return ({ address, health }, signal) => new Promise((resolve) => {
      const question = questionOf(address.text, health);
      const answer = this.answers.get(address.text) ?? "up";
      if (isShared) {
        this.started.push(question);
        this.#count(question, 1);
      }
      const end = (outcome: Outcome): void => {
        cancel();
        if (isShared) {
          this.#count(question, -1);
          if (!signal.aborted) this.judges.hear(question, outcome, this.env.clock.wallMs());
        }
        resolve(outcome);
      };
      const durationMs = answer === "down" ? 400 : 5;
      const cancel = this.env.clock.after(durationMs, () => {
        const [ok, conclusive] = [answer === "up" || answer === "drains", answer !== "fault"];
        end({ ok, conclusive, reason: answer, durationMs, ...(answer === "drains" ? { drains: true } : {}) });
      });
      signal.addEventListener("abort", () => { end({ ok: false, conclusive: false, reason: "cancelled", durationMs: 0 }); });
    });
  }

  #count(question: string, change: number): void {
    const count = (this.running.get(question) ?? 0) + change;
    this.running.set(question, count);
    expect(count, question).toBeLessThanOrEqual(1);
  }

  async take(step: Step): Promise<void> {
    if (step.do === "pass") await this.env.advance(step.ms);
    else if (step.do === "doubt") this.shared.probeNow(step.name);
    else if (step.do === "answer") this.answers.set(step.place, step.answer);
    else this.#reload(step.wishes.map(({ name, place, health }) => target(name, HEALTHS[health]![1], place)));
    this.#check();
  }

  #reload(targets: readonly ProbeTarget[]): void {
    this.judges.update(targets, this.env.clock.wallMs());
    this.shared.update(targets);
    for (const [name, checker] of this.alone) checker.update(targets.filter((each) => each.name === name));
  }

  #check(): void {
    const states = this.shared.states();
    expect([...states.keys()].sort()).toEqual([...this.judges.byName.keys()].sort());
    for (const [name, { question, state }] of this.judges.byName) {
      const found = states.get(name)!;
      if (question === "") expect([name, found.reason]).toEqual([name, "no health check"]);
      else expect([name, statusOf(found), found.reason, found.sinceMs]).toEqual([name, state.status, state.reason, state.sinceMs]);
      if (question !== "" && state.status !== "unknown") expect([name, this.said.get(name)]).toEqual([name, state.status]);
    }
  }

  /** With answers that stay what they are, sharing shows in nothing but the number of probes. */
  async quieten(): Promise<void> {
    for (const [place, answer] of this.answers) if (answer === "fault") this.answers.set(place, "up");
    await this.env.advance(40_000);
    this.#check();
    for (const [name, found] of this.shared.states()) {
      expect([name, statusOf(found)]).toEqual([name, statusOf(this.alone.get(name)!.states().get(name)!)]);
    }
    for (const place of PLACES) this.answers.set(place, "up");
    await this.env.advance(20_000);
    this.started = [];
    await this.env.advance(20_000);
    const wanted = new Set([...this.judges.byName.values()].flatMap(({ question }) => (question === "" ? [] : [question])));
    expect(new Set(this.started)).toEqual(wanted);
    for (const question of wanted) {
      const times = this.started.filter((each) => each === question).length;
      expect(times, question).toBeGreaterThanOrEqual(19);
      expect(times, question).toBeLessThanOrEqual(question.endsWith("d") ? 41 : 21);
    }
    this.shared.stop();
    for (const checker of this.alone.values()) checker.stop();
    expect(this.env.timers()).toBe(0);
  }
}

it("backends with one target have the verdicts of their own judges, for one probe", async () => {
  await assertPropertyAsync("probe_sharing", fc.asyncProperty(steps, async (taken) => {
    const trial = new Trial();
    for (const step of taken) await trial.take(step);
    await trial.quieten();
  }));
}, 600_000);
