// The checker under a fake clock: when probes start, what is kept over an update, and the bound on
// how long a dead backend stays.

import { describe, expect, it } from "vitest";
import type { HealthTransition } from "../../src/health/checker.ts";
import { createChecker } from "../../src/health/checker.ts";
import type { Outcome } from "../../src/health/judge.ts";
import type { Probe } from "../../src/health/schedule.ts";
import type { ProbeTarget } from "../../src/health/target.ts";
import { parseAddress } from "../../src/model/address.ts";
import { FEEDBACK_DEFAULTS } from "../../src/model/feedback.ts";
import type { Health } from "../../src/model/health_check.ts";
import type { FakeEnv } from "../support/fake_env.ts";
import { createFakeEnv } from "../support/fake_env.ts";

const TCP: Extract<Health, { type: "tcp" }> =
  { type: "tcp", intervalMs: 1000, timeoutMs: 400, rise: 2, fall: 3, jitter: 0, port: null, via: "direct", source: null };

const places: string[] = [];

/** Each at an address of its own. */
function target(backend: string, health: Health = TCP, port = 80): ProbeTarget {
  if (!places.includes(backend)) places.push(backend);
  const address = parseAddress(`10.0.${places.indexOf(backend) >> 8}.${places.indexOf(backend) & 255}`);
  if (address === null) throw new Error("a test address that is none");
  return { name: `web/${backend}`, pool: "web", backend, address, port, health, through: [] };
}

interface Start {
  readonly name: string;
  readonly atMs: number;
}

/** A network in which tests say who answers; the silent time out. */
class Network {
  readonly env: FakeEnv;
  readonly starts: Start[] = [];
  readonly transitions: HealthTransition[] = [];
  readonly down = new Set<string>();
  readonly running = new Map<string, number>();
  runningMost = 0;
  overlaps = 0;
  aborted = 0;
  answerMs = 5;
  readonly originMs: number;

  constructor(seed = 1) {
    this.env = createFakeEnv({ seed });
    this.originMs = this.env.clock.monotonicMs();
  }
  now(): number {
    return this.env.clock.monotonicMs() - this.originMs;
  }
  readonly probe: Probe = (subject, signal) => new Promise((resolve) => {
    this.starts.push({ name: subject.name, atMs: this.now() });
    const count = (change: number): void => {
      this.running.set(subject.name, (this.running.get(subject.name) ?? 0) + change);
    };
    count(1);
    if ((this.running.get(subject.name) ?? 0) > 1) this.overlaps += 1;
    this.runningMost = Math.max(this.runningMost, [...this.running.values()].reduce((a, b) => a + b));
    const isDown = this.down.has(subject.name);
    const timeoutMs = subject.health.type === "none" ? 0 : subject.health.timeoutMs;
    const durationMs = isDown ? timeoutMs : this.answerMs;
    const end = (outcome: Outcome): void => { cancel(); count(-1); resolve(outcome); };
    const cancel = this.env.clock.after(durationMs, () => {
      end({ ok: !isDown, conclusive: true, reason: isDown ? "timeout" : "connected", durationMs });
    });
    signal.addEventListener("abort", () => {
      this.aborted += 1;
      end({ ok: false, conclusive: false, reason: "cancelled", durationMs: 0 });
    });
  });
  checker(options: Partial<Parameters<typeof createChecker>[0]> = {}): ReturnType<typeof createChecker> {
    return createChecker({
      env: this.env, probe: this.probe, onTransition: (t) => this.transitions.push(t), ...options,
    });
  }
  startsOf(name: string): number[] {
    return this.starts.filter((start) => start.name === name).map((start) => start.atMs);
  }
}

function gaps(times: readonly number[]): number[] {
  return times.slice(1).map((time, index) => time - (times[index] ?? 0));
}

describe("the schedule", () => {
  it("counts intervals from start to start, however long the answer takes", async () => {
    const network = new Network();
    network.answerMs = 399;
    network.checker().update([target("a")]);
    await network.env.advance(10_500);
    const starts = network.startsOf("web/a");
    expect(starts.length).toBeGreaterThanOrEqual(10);
    for (const gap of gaps(starts)) expect(gap).toBeCloseTo(1000, 6);
  });

  it("jitter advances probes and never delays one; probes of a target never overlap", async () => {
    const network = new Network(7);
    network.down.add("web/a");
    network.checker().update([target("a", { ...TCP, jitter: 0.5, timeoutMs: 1000 }), target("b", { ...TCP, jitter: 0.5 })]);
    await network.env.advance(60_000);
    const gapsOfB = gaps(network.startsOf("web/b"));
    expect(Math.max(...gapsOfB)).toBeLessThanOrEqual(1000.001);
    expect(Math.min(...gapsOfB)).toBeGreaterThanOrEqual(500);
    expect(new Set(gapsOfB.map((gap) => Math.round(gap))).size).toBeGreaterThan(20);
    for (const gap of gaps(network.startsOf("web/a"))) expect(gap).toBeCloseTo(1000, 6);
    expect(network.overlaps).toBe(0);
  });

  it("asks those in doubt at a fast pace, and the dead at one of their own", async () => {
    const network = new Network();
    network.checker().update([target("a", { ...TCP, intervalMs: 4000, fastIntervalMs: 500, downIntervalMs: 10_000 })]);
    await network.env.advance(8_500);
    network.down.add("web/a");
    await network.env.advance(30_000);
    network.down.delete("web/a");
    await network.env.advance(20_000);
    const times = network.startsOf("web/a");
    const steps = gaps(times).map((gap) => Math.round(gap));
    // Steady; three failures; dead; two successes; steady again.
    expect(steps.join(" ")).toMatch(/^4000 4000( 4000)? 500 500 10000 10000( 10000)? 500 4000( 4000)*$/);
    expect(network.transitions.map(({ to }) => to)).toEqual(["up", "down", "up"]);
  });

  it("arranges the next probe before it tells, and none of a target that is taken away by whoever hears", async () => {
    const network = new Network();
    const checker = network.checker({ onTransition: () => { checker.update([]); } });
    checker.update([target("a")]);
    await network.env.advance(5_000);
    expect(network.starts).toHaveLength(1);
    expect(network.env.timers()).toBe(0);
  });

  it("spreads first probes over one interval", async () => {
    const network = new Network();
    network.checker().update(Array.from({ length: 100 }, (_, i) => target(`b${i}`)));
    await network.env.advance(1000);
    const first = new Map([...network.starts].reverse().map(({ name, atMs }) => [name, atMs]));
    expect(first.size).toBe(100);
    for (let tenth = 0; tenth < 10; tenth += 1) {
      const inside = [...first.values()].filter((atMs) => atMs >= tenth * 100 && atMs < (tenth + 1) * 100);
      expect(inside).toHaveLength(10);
    }
  });

  it.each([[1000, 10], [3000, 10], [500, 5], [105, 1.05], [173, 1.73]])(
    "of %i ms starts together what is due within one tick of %d ms, and no gap is longer than the interval", async (intervalMs, tickMs) => {
      const network = new Network(3);
      const names = Array.from({ length: 300 }, (_, i) => `b${i}`);
      network.answerMs = 2;
      network.checker().update(names.map((name) => target(name, { ...TCP, intervalMs, timeoutMs: 50 })));
      expect(network.env.timers()).toBeLessThanOrEqual(intervalMs / tickMs + 1); // one for each tick
      await network.env.advance(4 * intervalMs);
      const times = [...new Set(network.starts.map(({ atMs }) => atMs))].sort((a, b) => a - b);
      expect(Math.min(...gaps(times.slice(1)))).toBeGreaterThan(tickMs - 0.001);
      for (const name of names) {
        const [first = NaN, ...others] = gaps(network.startsOf(`web/${name}`));
        expect(first).toBeLessThanOrEqual(intervalMs + 0.001);
        expect(first).toBeGreaterThanOrEqual(intervalMs - tickMs - 0.001); // due before the first tick began
        for (const gap of others) expect(gap).toBeCloseTo(Math.floor(intervalMs / tickMs + 1e-6) * tickMs, 3);
      }
    });

  it("is after a stall as it was before, and two probes of a target are not closer than half an interval", async () => {
    const network = new Network(5);
    const { clock } = network.env;
    const stalls = [[2100, 2350], [4050, 4950]].map((span) => span.map((ms) => network.originMs + ms));
    const stalling = Object.assign(Object.create(clock) as typeof clock, { after: (delayMs: number, callback: () => void) => {
      const dueMs = clock.monotonicMs() + delayMs;
      const stall = stalls.find(([from = 0, to = 0]) => dueMs > from && dueMs < to);
      return clock.after((stall?.[1] ?? dueMs) - clock.monotonicMs(), callback);
    } });
    const names = Array.from({ length: 100 }, (_, i) => `b${i}`);
    network.checker({ env: { ...network.env, clock: stalling } }).update(names.map((name) => target(name)));
    await network.env.advance(8000);
    const startedIn = (fromMs: number): readonly string[] => network.starts
      .filter(({ atMs }) => atMs >= fromMs && atMs < fromMs + 1000).map(({ name, atMs }) => `${name} ${Math.round(atMs % 1000)}`).sort();
    expect(startedIn(3000)).toEqual(startedIn(1000));
    const all = names.flatMap((name) => gaps(network.startsOf(`web/${name}`)));
    expect(Math.min(...all)).toBeGreaterThanOrEqual(499);
    expect(Math.max(...all)).toBeLessThanOrEqual(1000 + 900);
  });

  it("runs no more probes at once than allowed, gives each its turn, and says so", async () => {
    const network = new Network();
    const names = Array.from({ length: 40 }, (_, i) => `b${i}`);
    for (const name of names) network.down.add(`web/${name}`);
    const checker = network.checker({ probesMax: 4 });
    checker.update(names.map((name) => target(name, { ...TCP, timeoutMs: 1000 })));
    await network.env.advance(60_000);
    expect(network.runningMost).toBe(4);
    const turns = names.map((name) => network.startsOf(`web/${name}`).length);
    expect(Math.max(...turns) - Math.min(...turns)).toBeLessThanOrEqual(1);
    expect(checker.counts().delayed).toBeGreaterThan(0);
    expect(network.env.messages("warn").length).toBeGreaterThanOrEqual(1);
    expect(network.env.messages("warn").length).toBeLessThanOrEqual(2);
  });
});

describe("detection", () => {
  it("a silent backend is down within fall × interval + timeout, and up again after rise", async () => {
    for (let seed = 1; seed <= 40; seed += 1) {
      const network = new Network(seed);
      const health = { ...TCP, jitter: (seed % 5) / 10, timeoutMs: seed % 2 === 0 ? 1000 : 300 };
      network.checker().update([target("a", health), target("b", health)]);
      await network.env.advance(5000 + seed * 37);
      const stoppedMs = network.now();
      network.down.add("web/a");
      await network.env.advance(3 * 1000 + health.timeoutMs + 100);
      expect(network.transitions.map((t) => `${t.backend} ${t.from} ${t.to}`).sort())
        .toEqual(["a unknown up", "a up down", "b unknown up"]);
      const starts = network.startsOf("web/a").filter((atMs) => atMs >= stoppedMs);
      expect(starts.length).toBeGreaterThanOrEqual(3);
      network.down.delete("web/a");
      await network.env.advance(2 * 1000 + health.timeoutMs + 100);
      expect(network.transitions.at(-1)).toMatchObject({ name: "web/a", from: "down", to: "up" });
    }
  });

  it("a backend that was never up is down after fall failures, and alive until then", async () => {
    const network = new Network();
    const checker = network.checker();
    network.down.add("web/a");
    checker.update([target("a")]);
    expect(checker.states().get("web/a")).toMatchObject({ alive: true, known: false, admission: 65536 });
    await network.env.advance(2399);
    expect(network.transitions).toEqual([]);
    await network.env.advance(1100);
    expect(network.transitions).toHaveLength(1);
    expect(checker.states().get("web/a")).toMatchObject({ alive: false, known: true, admission: 0, reason: "timeout" });
    expect(network.transitions[0]?.health).toBe(checker.states().get("web/a"));
  });

  it("a fault of this host is no answer", async () => {
    const network = new Network();
    const faulty: Probe = () => Promise.resolve({ ok: false, conclusive: false, reason: "EMFILE", durationMs: 0 });
    const checker = network.checker({ probe: faulty });
    checker.update([target("a")]);
    await network.env.advance(10_000);
    expect(network.transitions).toEqual([]);
    expect(checker.counts()).toMatchObject({ inconclusive: 10, failed: 0 });
    expect(checker.records("web/a").at(-1)).toMatchObject({ reason: "EMFILE", conclusive: false });
    // As long as there is none, it says why.
    expect(checker.states().get("web/a")).toMatchObject({ alive: true, known: false, reason: "EMFILE" });
  });

  it("a fault of this host changes nothing of what is known", async () => {
    const network = new Network();
    let isFaulty = false;
    const checker = network.checker({ probe: () => Promise.resolve(
      { ok: !isFaulty, conclusive: !isFaulty, reason: isFaulty ? "EMFILE" : "connected", durationMs: 0 }) });
    checker.update([target("a")]);
    await network.env.advance(2000);
    const before = checker.states().get("web/a");
    expect(before).toMatchObject({ known: true, reason: "connected" });
    isFaulty = true;
    await network.env.advance(10_000);
    expect(checker.states().get("web/a")).toEqual(before);
  });

  it("other ways to the same backend count anew, and what is known of it stays", async () => {
    const network = new Network();
    const checker = network.checker();
    const through = (service: string): ProbeTarget => {
      const each = target("a");
      return { ...each, through: [{ service, backend: each.name, address: each.address, port: 80 }] };
    };
    network.down.add("web/a");
    checker.update([through("one")]);
    await network.env.advance(4000);
    expect(checker.states().get("web/a")).toMatchObject({ alive: false });
    network.down.clear();
    await network.env.advance(1000);
    // One success of two, which is not what the other way has shown.
    checker.update([through("other")]);
    await network.env.advance(1000);
    expect(checker.states().get("web/a")).toMatchObject({ alive: false });
    await network.env.advance(1000);
    expect(checker.states().get("web/a")).toMatchObject({ alive: true });
  });

  it("keeps the last outcomes with their times, and no more than that", async () => {
    const network = new Network();
    const checker = network.checker();
    checker.update([target("a")]);
    await network.env.advance(100_000);
    const records = checker.records("web/a");
    expect(records).toHaveLength(20);
    expect(records.at(-1)).toMatchObject({ ok: true, reason: "connected", durationMs: 5 });
    expect(gaps(records.map((record) => record.atMs)).every((gap) => gap === 1000)).toBe(true);
    expect(checker.records("web/nobody")).toEqual([]);
  });
});

describe("update", () => {
  async function downNetwork(): Promise<{ network: Network; checker: ReturnType<typeof createChecker> }> {
    const network = new Network();
    const checker = network.checker();
    network.down.add("web/a");
    checker.update([target("a"), target("b")]);
    await network.env.advance(5000);
    expect(checker.states().get("web/a")?.alive).toBe(false);
    return { network, checker };
  }

  it("leaves an unchanged target and its schedule alone", async () => {
    const { network, checker } = await downNetwork();
    const before = checker.states().get("web/a");
    for (let i = 0; i < 50; i += 1) {
      checker.update([target("a", { ...TCP }), target("b")]);
      await network.env.advance(100);
    }
    expect(checker.states().get("web/a")).toBe(before);
    for (const gap of gaps(network.startsOf("web/b"))) expect(gap).toBeCloseTo(1000, 6);
    expect(network.aborted).toBe(0);
  });

  it("keeps the verdict when only the rules change, and forgets it when the place does", async () => {
    const { network, checker } = await downNetwork();
    checker.update([target("a", { ...TCP, intervalMs: 500 }), target("b")]);
    expect(checker.states().get("web/a")?.alive).toBe(false);
    checker.update([target("a", TCP, 81), target("b")]);
    expect(checker.states().get("web/a")).toMatchObject({ alive: true, known: false });
    await network.env.advance(10_000);
    expect(checker.states().get("web/a")?.alive).toBe(false);
  });

  it("goes on with counts and schedule when only what is made of verdicts changes", async () => {
    const network = new Network();
    const checker = network.checker();
    checker.update([target("a")]);
    await network.env.advance(2000);
    network.down.add("web/a");
    await network.env.advance(2000);
    const agent = { port: 9, send: null, intervalMs: 1000, timeoutMs: 100, jitter: 0, source: null };
    const outlier = {
      consecutive: 3, failuresAbove: null, intervalMs: 1, flowsMin: 1, ejectionMs: 1, ejectionMaxMs: 1, ejectedMax: 10, silence: false,
    };
    checker.update([target("a", {
      ...TCP, slowStartMs: 1000, agent, outlier, feedback: FEEDBACK_DEFAULTS, damping: { changesMax: 1, withinMs: 1000, holdMs: 1000 },
    })]);
    await network.env.advance(1500);
    for (const gap of gaps(network.startsOf("web/a"))) expect(gap).toBeCloseTo(1000, 6);
    expect([network.aborted, checker.states().get("web/a")?.alive]).toEqual([0, false]);
  });

  it("without a health check a backend is alive and known, and never probed", async () => {
    const { network, checker } = await downNetwork();
    const before = network.startsOf("web/a").length;
    checker.update([target("a", { type: "none" })]);
    await network.env.advance(10_000);
    expect(network.startsOf("web/a")).toHaveLength(before);
    expect([...checker.states()]).toMatchObject([["web/a", { alive: true, known: true, reason: "no health check" }]]);
    checker.update([target("a")]);
    expect(checker.states().get("web/a")).toMatchObject({ alive: true, known: false });
    await network.env.advance(4000);
    expect(checker.states().get("web/a")?.alive).toBe(false);
  });

  it("a target that goes is aborted and its late answer ignored; after stop nothing happens", async () => {
    const network = new Network();
    const checker = network.checker();
    network.down.add("web/a");
    network.down.add("web/b");
    checker.update([target("a"), target("b")]);
    while (network.starts.length < 2) await network.env.advance(10);
    checker.update([target("b")]);
    expect(network.aborted).toBeGreaterThanOrEqual(1);
    await network.env.advance(5000);
    expect(network.transitions.map((t) => t.backend)).toEqual(["b"]);
    checker.stop();
    await network.env.advance(5000);
    const count = network.starts.length;
    checker.update([target("a")]);
    await network.env.advance(5000);
    expect(network.starts).toHaveLength(count);
    expect(network.env.timers()).toBe(0);
    expect(checker.counts().running).toBe(0);
  });

  it("starts from what an adopted plane knew", async () => {
    const network = new Network();
    const initial = new Map([["web/a", { alive: false, known: true, admission: 0, reason: "timeout", sinceMs: 5 }]]);
    const checker = network.checker({ initial });
    checker.update([target("a"), target("b")]);
    expect(checker.states().get("web/a")).toMatchObject({ alive: false, sinceMs: 5 });
    await network.env.advance(3000);
    expect(network.transitions.find((t) => t.backend === "a")).toMatchObject({ from: "down", to: "up" });
    checker.update([target("a", TCP, 81)]);
    expect(checker.states().get("web/a")).toMatchObject({ alive: true, known: false });
  });

  it("probes at once when there is a doubt, once a second at most, and goes on from there", async () => {
    const network = new Network();
    const checker = network.checker();
    const slow = { ...TCP, intervalMs: 60_000 };
    expect(checker.probeNow("web/a")).toBe(false);
    checker.update([target("a", slow), target("quiet", { type: "none" })]);
    expect(checker.probeNow("web/quiet")).toBe(false);
    expect(checker.probeNow("web/a")).toBe(true);
    // That one is still under way.
    expect(checker.probeNow("web/a")).toBe(false);
    await network.env.advance(999);
    expect(checker.probeNow("web/a")).toBe(false);
    await network.env.advance(1);
    expect(checker.probeNow("web/a")).toBe(true);
    await network.env.advance(60_500);
    expect(network.startsOf("web/a")).toEqual([0, 1000, 61_000]);
    expect(network.overlaps).toBe(0);
    // Nobody is down for a doubt; the probes say so.
    network.down.add("web/a");
    for (let second = 0; second < 3; second += 1) {
      expect(network.transitions.filter(({ to }) => to === "down")).toEqual([]);
      checker.probeNow("web/a");
      await network.env.advance(1000);
    }
    expect(network.transitions.at(-1)).toMatchObject({ to: "down", reason: "timeout" });
    checker.stop();
    expect(checker.probeNow("web/a")).toBe(false);
  });

  it("states() is the same value until something changes", async () => {
    const { network, checker } = await downNetwork();
    const before = checker.states();
    await network.env.advance(3000);
    expect(checker.states()).toBe(before);
    network.down.clear();
    await network.env.advance(3000);
    expect(checker.states()).not.toBe(before);
  });
});
