// Ejections under a fake clock: who is ejected and for how long, how many of a pool, and what ends it. The checker
// below is a list of states; when flows are too bad is test/property/outlier.test.ts's business.

import { describe, expect, it } from "vitest";
import { createOutliers } from "../../src/health/outliers.ts";
import { createSlowStart } from "../../src/health/slow_start.ts";
import type { ProbeTarget } from "../../src/health/target.ts";
import { ANSWERED, failedFlow, silentFlow } from "../../src/model/flows_seen.ts";
import type { Health, OutlierRules } from "../../src/model/health_check.ts";
import { DOWN, LayerWorld, target, UP } from "../support/layer_world.ts";

const RULES: OutlierRules = {
  consecutive: 3, failuresAbove: null, intervalMs: 10_000, flowsMin: 10, ejectionMs: 30_000, ejectionMaxMs: 300_000,
  ejectedMax: 10, silence: false,
};

function judged(rules: Partial<OutlierRules> = {}, more: Partial<Health> = {}): Health {
  return {
    type: "tcp", intervalMs: 1000, timeoutMs: 400, rise: 1, fall: 1, jitter: 0, port: null, via: "direct", source: null,
    outlier: { ...RULES, ...rules }, ...more,
  } as Health;
}

function pool(size: number, health: Health = judged(), name = "web"): ProbeTarget[] {
  return Array.from({ length: size }, (_, at) => target(`${name}/${at}`, health));
}

class Scene extends LayerWorld {
  constructor(targets: readonly ProbeTarget[]) {
    super((options, make) => createSlowStart(options, (below) => createOutliers(below, make)));
    this.checker.update(targets);
  }

  fails(name: string, times = 3): void {
    for (let at = 0; at < times; at++) this.checker.hearFlows(name, failedFlow("ECONNREFUSED"));
  }

  get ejected(): string[] {
    return [...this.checker.states()].flatMap(([name, { withheld }]) => (withheld === "ejected" ? [name] : []));
  }

  get news(): string[] { return this.told.map(({ name, from, to }) => `${name}: ${from} ${to}`); }
  warnings(): string[] { return this.env.logged.filter(({ level }) => level === "warn").map(({ message }) => message); }
}

describe("a backend whose flows fail", () => {
  it("gets no new flows for the base time, keeps what it has, and is told with the reason", () => {
    const scene = new Scene(pool(3));
    scene.fails("web/1", 2);
    expect(scene.ejected).toEqual([]);
    scene.fails("web/1", 1);
    expect(scene.state("web/1")).toEqual({
      ...UP, admission: 0, withheld: "ejected", reason: "3 flows in a row failed: ECONNREFUSED; ejected for 30 s", sinceMs: scene.env.clock.wallMs(),
    });
    expect([scene.share("web/0"), scene.share("web/2")]).toEqual([100, 100]);
    scene.env.advanceSync(29_999);
    expect(scene.ejected).toEqual(["web/1"]);
    scene.env.advanceSync(1);
    expect(scene.state("web/1")).toBe(UP);
    expect(scene.news).toEqual(["web/1: up ejected", "web/1: ejected up"]);
    expect(scene.told.map(({ probes }) => probes)).toEqual([[], []]);
    expect(scene.env.timers()).toBe(0);
  });

  it("is forgiven by one flow that is answered, and ejected by a share of an interval too", () => {
    const scene = new Scene(pool(3, judged({ failuresAbove: 50 })));
    for (let round = 0; round < 4; round++) {
      scene.fails("web/1", 2);
      scene.checker.hearFlows("web/1", ANSWERED);
    }
    expect(scene.ejected).toEqual(["web/1"]);
    expect(scene.state("web/1")?.reason).toBe("7 of 10 flows failed: ECONNREFUSED; ejected for 30 s");
  });

  it("is ejected for longer each time, at most for the maximum; good time takes that off again", () => {
    const scene = new Scene(pool(3, judged({ ejectionMaxMs: 100_000 })));
    const lengthMs = (): number => {
      const beganMs = scene.env.clock.wallMs();
      scene.fails("web/1");
      while (scene.ejected.length > 0) scene.env.advanceSync(1000);
      return scene.env.clock.wallMs() - beganMs;
    };
    expect([lengthMs(), lengthMs(), lengthMs(), lengthMs(), lengthMs()]).toEqual([30_000, 60_000, 90_000, 100_000, 100_000]);
    scene.env.advanceSync(60_000);
    expect(lengthMs()).toBe(90_000);
    scene.env.advanceSync(300_000);
    expect(lengthMs()).toBe(30_000);
  });

  it("hears nothing while it is ejected: what it has still ends as it may", () => {
    const scene = new Scene(pool(3));
    scene.fails("web/1", 50);
    scene.env.advanceSync(30_000);
    expect(scene.ejected).toEqual([]);
    scene.fails("web/1", 2);
    expect(scene.ejected).toEqual([]);
    expect(scene.checker.flowTotals().get("web/1")).toEqual({ ok: 0, failed: 52, ejections: 1, spared: 0 });
  });

  it("starts slowly when it is back, where backends do", () => {
    const scene = new Scene(pool(3, judged({}, { slowStartMs: 20_000 })));
    scene.fails("web/1");
    scene.env.advanceSync(30_000);
    expect([scene.ejected, scene.share("web/1")]).toEqual([[], 5]);
  });

  it("has not failed by silence, unless that is asked for", () => {
    const quiet = (silence: boolean): string[] => {
      const scene = new Scene(pool(3, judged({ silence })));
      for (let at = 0; at < 3; at++) scene.checker.hearFlows("web/1", silentFlow("no answer"));
      return scene.ejected;
    };
    expect([quiet(false), quiet(true)]).toEqual([[], ["web/1"]]);
  });
});

describe("a pool", () => {
  it("spares one backend at least, its share else, and says whom it could not", () => {
    const scene = new Scene([...pool(25), ...pool(3, judged(), "db")]);
    for (let at = 0; at < 4; at++) scene.fails(`web/${at}`);
    expect(scene.ejected).toEqual(["web/0", "web/1"]);
    scene.fails("db/2");
    expect(scene.ejected).toEqual(["web/0", "web/1", "db/2"]);
    expect(scene.warnings()).toEqual([
      "web/2 is not ejected, though 3 flows in a row failed: ECONNREFUSED: 2 of 25 backends of web are ejected already (ejectedMax)",
    ]);
    expect(scene.checker.flowTotals().get("web/3")).toMatchObject({ ejections: 0, spared: 1 });
    // Whoever still fails is ejected when it can be.
    scene.env.advanceSync(30_000);
    scene.fails("web/3");
    expect(scene.ejected).toEqual(["web/3"]);
  });

  it("keeps the last backend that takes new flows, whatever its share", () => {
    const scene = new Scene(pool(3, judged({ ejectedMax: 100 })));
    scene.turns("web/0", DOWN);
    scene.fails("web/1");
    scene.fails("web/2");
    expect(scene.ejected).toEqual(["web/1"]);
    expect(scene.warnings()).toEqual([expect.stringMatching(/: no other backend of web takes flows$/)]);
    const alone = new Scene(pool(1));
    alone.fails("web/0", 30);
    expect(alone.ejected).toEqual([]);
  });
});

describe("an ejection", () => {
  it("counts for nothing while all others of the pool are out, for whatever reason, and goes on when one is back", () => {
    const scene = new Scene([...pool(3, judged({ ejectedMax: 100 })), ...pool(2, judged(), "db")]);
    scene.fails("web/0");
    scene.fails("web/1");
    expect(scene.ejected).toEqual(["web/0", "web/1"]);
    scene.turns("web/2", { ...UP, admission: 0 });
    expect([scene.ejected, scene.share("web/0"), scene.share("web/1")]).toEqual([[], 100, 100]);
    expect(scene.state("web/0")?.reason).toBe("connected (not ejected, though 3 flows in a row failed: ECONNREFUSED: no other takes flows)");
    scene.turns("web/2", UP);
    expect(scene.ejected).toEqual(["web/0", "web/1"]);
    expect(scene.news.slice(-6)).toEqual([
      "web/2: up draining", "web/0: ejected up", "web/1: ejected up", "web/2: draining up", "web/0: up ejected", "web/1: up ejected",
    ]);
    scene.env.advanceSync(30_000);
    expect([scene.ejected, scene.env.timers()]).toEqual([[], 0]);
  });

  it("takes nobody from a pool whose others are kept out by their operator or their weight", () => {
    const [first, ...others] = pool(3, judged({ ejectedMax: 100 }));
    const scene = new Scene([first!, ...others.map((each) => ({ ...each, isOut: true }))]);
    scene.fails("web/0", 9);
    expect([scene.ejected, scene.warnings()]).toEqual([[], [expect.stringMatching(/: no other backend of web takes flows$/)]]);
    scene.checker.update([first!, ...others]);
    scene.fails("web/0");
    expect(scene.ejected).toEqual(["web/0"]);
    scene.checker.update([first!, ...others.map((each) => ({ ...each, isOut: true }))]);
    expect([scene.ejected, scene.share("web/0")]).toEqual([[], 100]);
  });

  it("ends when probes have the backend down, whose word counts then; it is not forgotten", () => {
    const scene = new Scene(pool(3));
    scene.fails("web/1");
    scene.turns("web/1", DOWN);
    expect(scene.state("web/1")).toBe(DOWN);
    scene.turns("web/1", UP);
    expect(scene.state("web/1")).toBe(UP);
    expect(scene.news).toEqual(["web/1: up ejected", "web/1: ejected down", "web/1: down up"]);
    scene.fails("web/1");
    expect(scene.state("web/1")?.reason).toMatch(/ejected for 60 s$/);
  });

  it("ends when its own time is over, whoever else is ejected", () => {
    const scene = new Scene(pool(4, judged({ ejectedMax: 100 })));
    for (const name of ["web/0", "web/1", "web/2"]) {
      scene.fails(name);
      scene.env.advanceSync(7_000);
    }
    for (const [ms, ejected] of [[8_999, ["web/0", "web/1", "web/2"]], [1, ["web/1", "web/2"]], [7_000, ["web/2"]], [7_000, []]] as const) {
      scene.env.advanceSync(ms);
      expect(scene.ejected).toEqual(ejected);
    }
  });

  it("begins with a clean sheet after a failure of probes, and good time goes on but for the ejected", () => {
    const scene = new Scene(pool(3));
    const fallsAndRises = (): void => { for (const health of [DOWN, UP]) scene.turns("web/1", health); };
    scene.fails("web/1", 2);
    fallsAndRises();
    scene.fails("web/1", 2);
    expect(scene.ejected).toEqual([]);
    scene.fails("web/1", 1);
    scene.turns("web/1", { ...UP, admission: 0 });
    scene.turns("web/1", UP);
    expect(scene.ejected).toEqual(["web/1"]);
    scene.env.advanceSync(29_000);
    scene.turns("web/1", DOWN);
    expect(scene.env.timers()).toBe(0);
    scene.turns("web/1", UP);
    scene.env.advanceSync(2_000);
    scene.fails("web/1");
    expect(scene.state("web/1")?.reason).toMatch(/ejected for 60 s$/);
    scene.env.advanceSync(60_000 + 20_000);
    fallsAndRises();
    scene.env.advanceSync(10_000);
    scene.fails("web/1");
    expect(scene.state("web/1")?.reason).toMatch(/ejected for 60 s$/);
  });

  it("leaves alone whom probes, or its own word, keep from new flows", () => {
    const scene = new Scene(pool(3));
    scene.turns("web/1", { ...UP, admission: 0 });
    scene.fails("web/1", 9);
    expect(scene.state("web/1")).toMatchObject({ admission: 0, reason: "connected" });
    scene.turns("web/1", UP);
    scene.fails("web/1", 2);
    expect(scene.ejected).toEqual([]);
  });

  it("outlives a change of the rules, and neither their end nor another address", () => {
    const scene = new Scene(pool(5, judged({ ejectedMax: 100 })));
    for (const name of ["web/0", "web/1", "web/2"]) scene.fails(name);
    const { outlier, ...unjudged } = judged() as Health & { outlier: OutlierRules };
    scene.checker.update([
      target("web/0", { ...unjudged, outlier: { ...outlier, consecutive: 9 } }), target("web/1", unjudged),
      target("web/2", judged(), "10.0.0.9"), ...pool(5).slice(3),
    ]);
    expect(scene.ejected).toEqual(["web/0"]);
    expect([...scene.checker.flowTotals().keys()]).toEqual(["web/0", "web/2", "web/3", "web/4"]);
    scene.env.advanceSync(30_000);
    expect([scene.ejected, scene.env.timers()]).toEqual([[], 0]);
    scene.fails("web/0", 8);
    expect(scene.ejected).toEqual([]);
    scene.fails("web/0", 1);
    expect(scene.ejected).toEqual(["web/0"]);
    scene.checker.update([]);
    expect([scene.checker.states().size, scene.env.timers()]).toEqual([0, 0]);
  });

  it("is no reason to stay awake once it is stopped, nor is any flow", () => {
    const scene = new Scene(pool(3));
    scene.fails("web/1");
    scene.checker.stop();
    scene.fails("web/2");
    expect([scene.env.timers(), scene.ejected]).toEqual([0, ["web/1"]]);
  });
});
