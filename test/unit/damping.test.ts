// Flap damping under a fake clock: who is held and for how long, who is not, and what ends it. The checker below is a
// list of states; how many changes are too many is test/property/damp.test.ts's business.

import { describe, expect, it } from "vitest";
import { createDamping } from "../../src/health/damping.ts";
import { createOutliers } from "../../src/health/outliers.ts";
import { createSlowStart } from "../../src/health/slow_start.ts";
import type { ProbeTarget } from "../../src/health/target.ts";
import { failedFlow } from "../../src/model/flows_seen.ts";
import type { DampingRules, Health } from "../../src/model/health_check.ts";
import { DOWN, LayerWorld, target, UP } from "../support/layer_world.ts";

const RULES: DampingRules = { changesMax: 3, withinMs: 60_000, holdMs: 30_000 };

function damped(rules: Partial<DampingRules> = {}, more: Partial<Health> = {}): Health {
  return {
    type: "tcp", intervalMs: 1000, timeoutMs: 400, rise: 1, fall: 1, jitter: 0, port: null, via: "direct", source: null,
    damping: { ...RULES, ...rules }, ...more,
  } as Health;
}

function pool(size: number, health: Health = damped(), name = "web"): ProbeTarget[] {
  return Array.from({ length: size }, (_, at) => target(`${name}/${at}`, health));
}

class Scene extends LayerWorld {
  constructor(targets: readonly ProbeTarget[]) {
    super((options, make) => createSlowStart(options, (below) => createDamping(below, (next) => createOutliers(next, make))));
    this.checker.update(targets);
  }

  /** Down and up again, each time two changes. */
  flaps(name: string, times = 2): void {
    for (let at = 0; at < times; at++) for (const health of [DOWN, UP]) this.turns(name, health);
  }

  get held(): string[] {
    return [...this.checker.states()].flatMap(([name, { withheld }]) => (withheld === "damped" ? [name] : []));
  }

  get news(): string[] { return this.told.map(({ name, from, to }) => `${name}: ${from} ${to}`); }
}

describe("a backend that changes too often", () => {
  it("gets no new flows until it has been quiet, keeps what it has, and is told with the reason", () => {
    const scene = new Scene(pool(3));
    scene.flaps("web/1", 1);
    scene.turns("web/1", DOWN);
    expect([scene.held, scene.env.timers()]).toEqual([[], 0]);
    scene.turns("web/1", UP);
    expect(scene.state("web/1")).toEqual({
      ...UP, admission: 0, withheld: "damped", sinceMs: scene.env.clock.wallMs(),
      reason: "more than 3 changes within 60 s; held until there was none for 30 s",
    });
    expect([scene.share("web/0"), scene.share("web/2")]).toEqual([100, 100]);
    scene.env.advanceSync(29_999);
    expect(scene.held).toEqual(["web/1"]);
    scene.env.advanceSync(1);
    expect(scene.state("web/1")).toBe(UP);
    expect(scene.news).toEqual(["up down", "down up", "up down", "down damped", "damped up"].map((each) => `web/1: ${each}`));
    expect(scene.env.timers()).toBe(0);
  });

  it("has each change begin its time anew, is down while it is, and is held again soon after", () => {
    const scene = new Scene(pool(3));
    scene.flaps("web/1");
    scene.env.advanceSync(20_000);
    scene.turns("web/1", DOWN);
    expect(scene.state("web/1")).toBe(DOWN);
    scene.env.advanceSync(29_000);
    scene.turns("web/1", UP);
    expect(scene.held).toEqual(["web/1"]);
    scene.env.advanceSync(29_999);
    expect(scene.held).toEqual(["web/1"]);
    scene.env.advanceSync(1);
    expect(scene.held).toEqual([]);
    scene.flaps("web/1", 1);
    expect(scene.held).toEqual(["web/1"]);
    scene.env.advanceSync(30_000);
    expect(scene.held).toEqual([]);
    scene.env.advanceSync(60_000);
    scene.flaps("web/1", 1);
    expect(scene.held).toEqual([]);
  });

  it("comes back with all of it where its time ended while it was down", () => {
    const scene = new Scene(pool(3));
    scene.flaps("web/1", 2);
    scene.turns("web/1", DOWN);
    scene.env.advanceSync(61_000);
    scene.turns("web/1", UP);
    expect([scene.held, scene.share("web/1"), scene.env.timers()]).toEqual([[], 100, 0]);
  });

  it("starts slowly when it is back, where backends do", () => {
    const scene = new Scene(pool(3, damped({}, { slowStartMs: 20_000 })));
    scene.flaps("web/1");
    scene.env.advanceSync(30_000);
    expect([scene.held, scene.share("web/1")]).toEqual([[], 5]);
  });

  it("is none for its first verdict, its own word, or an ejection", () => {
    const outlier = {
      consecutive: 1, failuresAbove: null, intervalMs: 10_000, flowsMin: 10, ejectionMs: 1000, ejectionMaxMs: 1000, ejectedMax: 10, silence: false,
    };
    const scene = new Scene(pool(3, damped({ changesMax: 1 }, { outlier })));
    for (let at = 0; at < 3; at++) {
      scene.turns("web/1", { ...UP, known: false });
      scene.turns("web/1", UP);
      scene.turns("web/1", { ...UP, admission: 0 });
      scene.turns("web/1", UP);
      scene.checker.hearFlows("web/1", failedFlow("refused"));
      scene.env.advanceSync(1000);
    }
    expect(scene.news).toContain("web/1: up ejected");
    scene.turns("web/1", { ...UP, known: false });
    scene.turns("web/1", DOWN);
    scene.turns("web/1", UP);
    expect(scene.held).toEqual([]);
    scene.turns("web/1", DOWN);
    scene.turns("web/1", UP);
    expect(scene.held).toEqual(["web/1"]);
  });
});

describe("a pool", () => {
  it("keeps the last backend that takes new flows, until there is another one", () => {
    const scene = new Scene([...pool(2), ...pool(2, damped(), "db")]);
    scene.flaps("web/1");
    expect(scene.held).toEqual(["web/1"]);
    scene.turns("web/0", { ...UP, admission: 0 });
    expect([scene.held, scene.share("web/1")]).toEqual([[], 100]);
    expect(scene.state("web/1")?.reason).toBe("connected (not held, though more than 3 changes within 60 s: no other takes flows)");
    scene.turns("web/0", UP);
    expect(scene.held).toEqual(["web/1"]);
    expect(scene.news.slice(-4)).toEqual(["web/0: up draining", "web/1: damped up", "web/0: draining up", "web/1: up damped"]);
    scene.checker.update([...pool(2).map((each) => ({ ...each, isOut: each.name === "web/0" })), ...pool(2, damped(), "db")]);
    expect([scene.held, scene.share("web/1")]).toEqual([[], 100]);
    const alone = new Scene(pool(1));
    alone.flaps("web/0", 9);
    expect(alone.held).toEqual([]);
  });

  it("keeps all of them where all would be held, and the last one that is not ejected", () => {
    const outlier = {
      consecutive: 1, failuresAbove: null, intervalMs: 10_000, flowsMin: 10, ejectionMs: 10_000, ejectionMaxMs: 10_000, ejectedMax: 100,
      silence: false,
    };
    const scene = new Scene(pool(2, damped({}, { outlier })));
    for (const name of ["web/0", "web/1"]) scene.flaps(name);
    expect([scene.held, scene.share("web/0"), scene.share("web/1")]).toEqual([[], 100, 100]);
    scene.env.advanceSync(300_000);
    scene.checker.hearFlows("web/0", failedFlow("refused"));
    scene.flaps("web/1");
    expect([scene.held, scene.state("web/0")?.withheld, scene.share("web/1")]).toEqual([[], "ejected", 100]);
    scene.env.advanceSync(10_000);
    expect(scene.held).toEqual(["web/1"]);
  });
});

describe("a hold", () => {
  it("ends when its own time is over, whoever else is held", () => {
    const scene = new Scene(pool(4));
    for (const name of ["web/0", "web/1", "web/2"]) {
      scene.flaps(name);
      scene.env.advanceSync(7_000);
    }
    for (const [ms, held] of [[8_999, ["web/0", "web/1", "web/2"]], [1, ["web/1", "web/2"]], [7_000, ["web/2"]], [7_000, []]] as const) {
      scene.env.advanceSync(ms);
      expect(scene.held).toEqual(held);
    }
    expect(scene.env.timers()).toBe(0);
  });

  it("outlives a change of the rules, under the new ones, and neither their end nor another address", () => {
    const scene = new Scene(pool(5));
    for (const name of ["web/0", "web/1", "web/2"]) scene.flaps(name);
    expect(scene.held).toEqual(["web/0", "web/1", "web/2"]);
    const { damping: _, ...undamped } = damped();
    scene.checker.update([
      target("web/0", damped({ holdMs: 10_000 })), target("web/1", undamped), target("web/2", damped(), "10.0.0.9"),
      ...pool(5).slice(3),
    ]);
    expect(scene.held).toEqual(["web/0"]);
    scene.env.advanceSync(10_000);
    expect([scene.held, scene.env.timers()]).toEqual([[], 0]);
    scene.flaps("web/0");
    scene.checker.update([]);
    expect([scene.checker.states().size, scene.env.timers()]).toEqual([0, 0]);
  });

  it("is no reason to stay awake once it is stopped", () => {
    const scene = new Scene(pool(3));
    scene.flaps("web/1");
    scene.checker.stop();
    scene.turns("web/2", DOWN);
    expect(scene.env.timers()).toBe(0);
  });
});
