// Feedback as a layer: what it takes from whom, at what pace, and when it gives it back.

import { expect, it } from "vitest";
import { createFeedback } from "../../src/health/feedback.ts";
import type { Health } from "../../src/model/health_check.ts";
import { DOWN, LayerWorld, target, UP } from "../support/layer_world.ts";

const PLAIN: Health = {
  type: "tcp", intervalMs: 1000, timeoutMs: 400, rise: 1, fall: 1, jitter: 0, port: null, via: "direct", source: null,
};
const STEERED: Health = {
  ...PLAIN, feedback: { intervalMs: 5000, floorPercent: 25, deadBandPercent: 10, movedPercentPerSecond: 1 },
};
const NAMES = ["web/a", "web/b", "web/c", "web/d"];

function scene(health: Health): LayerWorld {
  const world = new LayerWorld(createFeedback);
  world.checker.update(NAMES.map((name) => target(name, health)));
  for (const name of NAMES) world.times.set(name, name === "web/a" ? 100 : 20);
  return world;
}

it("takes from the slow one step by step, down to its floor, and says why", () => {
  const world = scene(STEERED);
  expect(NAMES.map((name) => world.share(name))).toEqual([100, 100, 100, 100]);
  world.env.advanceSync(5000);
  // One percent of the flows a second, of which a backend has a quarter.
  expect(NAMES.map((name) => world.share(name))).toEqual([80, 100, 100, 100]);
  expect(world.state("web/a")?.reason).toBe("connected (feedback: 80%, 100 ms, the pool 20 ms)");
  world.env.advanceSync(60_000);
  expect([world.share("web/a"), world.steps]).toEqual([25, 4]);
});

it("gives it back when the slow one is as fast as the others, is down, or is steered no more", () => {
  const world = scene(STEERED);
  world.env.advanceSync(20_000);
  world.times.set("web/a", 20);
  world.env.advanceSync(20_000);
  expect(world.share("web/a")).toBe(100);
  world.times.set("web/a", 100);
  world.env.advanceSync(5000);
  world.turns("web/a", DOWN);
  world.turns("web/a", UP);
  expect(world.share("web/a")).toBe(100);
  world.env.advanceSync(5000);
  expect(world.share("web/a")).toBe(80);
  world.checker.update(NAMES.map((name) => target(name, PLAIN)));
  expect([world.share("web/a"), world.env.timers()]).toEqual([100, 0]);
});

it("leaves alone whom nothing is known of, and who is not steered", () => {
  const unknown = scene(STEERED);
  unknown.times.clear();
  const plain = scene(PLAIN);
  for (const world of [unknown, plain]) {
    world.env.advanceSync(60_000);
    expect([world.share("web/a"), world.steps]).toEqual([100, 0]);
  }
});
