// Slow start under a fake clock: who goes slow, how admission grows, and what ends it. The checker inside is a
// list of states.

import { describe, expect, it } from "vitest";
import { createSlowStart } from "../../src/health/slow_start.ts";
import type { ProbeTarget } from "../../src/health/target.ts";
import type { Health } from "../../src/model/health_check.ts";
import { ADMISSION_MAX } from "../../src/model/table.ts";
import { DOWN, LayerWorld, target as targetOf, UP } from "../support/layer_world.ts";

const SLOW: Health = {
  type: "tcp", intervalMs: 1000, timeoutMs: 400, rise: 1, fall: 1, jitter: 0, port: null, via: "direct", source: null, slowStartMs: 20_000,
};

function target(name: string, health: Health = SLOW): ProbeTarget { return targetOf(name, health); }

class Scene extends LayerWorld {
  constructor() { super(createSlowStart); }
}

describe("slow start", () => {
  it("gives a backend that is back a twentieth more with each twentieth of the time, and then everything", () => {
    const scene = new Scene();
    scene.checker.update([target("web/a"), target("web/b")]);
    scene.turns("web/a", DOWN);
    scene.turns("web/a", UP);
    expect(scene.told.map(({ to, health }) => [to, health.admission])).toEqual([["down", 0], ["up", Math.floor(ADMISSION_MAX / 20)]]);
    const shares: number[] = [];
    for (let second = 0; second < 21; second++) {
      shares.push(scene.share("web/a"));
      scene.env.advanceSync(1000);
    }
    expect(shares).toEqual([...Array.from({ length: 20 }, (_, step) => (step + 1) * 5), 100]);
    expect([scene.steps, scene.share("web/b"), scene.env.timers()]).toEqual([20, 100, 0]);
    expect(scene.checker.states().get("web/a")).toBe(UP);
  });

  it("says why the admission is what it is", () => {
    const scene = new Scene();
    scene.checker.update([target("web/a")]);
    scene.turns("web/a", DOWN);
    scene.turns("web/a", UP);
    scene.env.advanceSync(9_500);
    expect(scene.checker.states().get("web/a")?.reason).toBe("connected (slow start: 50%)");
  });

  it("is for backends that are new in the config, and not for those that were there at the start", () => {
    const scene = new Scene();
    scene.checker.update([target("web/a")]);
    expect(scene.share("web/a")).toBe(100);
    scene.checker.update([target("web/a"), target("web/b")]);
    expect([scene.share("web/a"), scene.share("web/b")]).toEqual([100, 5]);
  });

  it("ends with the backend, with its target and with the key; what is down has nothing", () => {
    const scene = new Scene();
    scene.checker.update([target("web/a"), target("web/b"), target("web/c")]);
    for (const name of ["web/a", "web/b", "web/c"]) { scene.turns(name, DOWN); scene.turns(name, UP); }
    scene.turns("web/a", DOWN);
    expect(scene.share("web/a")).toBe(0);
    const { slowStartMs, ...quick } = SLOW;
    scene.checker.update([target("web/a"), target("web/b", quick)]);
    expect([slowStartMs, scene.share("web/b"), scene.checker.states().has("web/c")]).toEqual([20_000, 100, false]);
    scene.env.advanceSync(60_000);
    expect(scene.env.timers()).toBe(0);
  });

  it("takes its part of what the backend itself wants, and nothing of nothing", () => {
    const scene = new Scene();
    scene.checker.update([target("web/a")]);
    scene.turns("web/a", DOWN);
    scene.turns("web/a", { ...UP, admission: ADMISSION_MAX / 2 });
    scene.env.advanceSync(9_000);
    expect(scene.share("web/a")).toBe(25);
    scene.turns("web/a", { ...UP, admission: 0 });
    expect(scene.share("web/a")).toBe(0);
  });

  it("is no reason to stay awake once it is stopped", () => {
    const scene = new Scene();
    scene.checker.update([target("web/a")]);
    scene.turns("web/a", DOWN);
    scene.turns("web/a", UP);
    scene.checker.stop();
    expect(scene.env.timers()).toBe(0);
  });
});
