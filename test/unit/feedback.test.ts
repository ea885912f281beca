// Feedback as a layer: what it takes from whom, at what pace, and when it gives it back.

import { expect, it } from "vitest";
import { createFeedback } from "../../src/health/feedback.ts";
import type { Health } from "../../src/model/health_check.ts";
import { ADMISSION_MAX } from "../../src/model/table.ts";
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

it("goes by what clients wait for where that is known of all that take flows, and else by probes", () => {
  const world = scene(STEERED);
  for (const name of NAMES) world.answers.set(name, name === "web/b" ? 200 : 40);
  world.env.advanceSync(5000);
  expect(NAMES.map((name) => world.share(name))).toEqual([100, 80, 100, 100]);
  expect(world.state("web/b")?.reason).toBe("connected (feedback: 80%, 200 ms, the pool 40 ms by clients' flows)");
  world.answers.delete("web/d");
  world.env.advanceSync(60_000);
  expect(NAMES.map((name) => world.share(name))).toEqual([25, 100, 100, 100]);
  // Of one that takes none there is nothing to know.
  world.turns("web/d", { ...UP, admission: 0 });
  world.env.advanceSync(60_000);
  expect(NAMES.map((name) => world.share(name))).toEqual([100, 32, 100, 0]);
});

it("adds what handshakes with clients take to what probes take, as soon as two are known, and who had none has the median's", () => {
  const world = scene(STEERED);
  for (const name of NAMES) world.times.set(name, name === "web/a" ? 60 : 20);
  world.handshakes.set("web/b", 180);
  world.env.advanceSync(5000);
  // One of which something is known is compared with nobody.
  expect(NAMES.map((name) => world.share(name))).toEqual([80, 100, 100, 100]);
  for (const name of ["web/c", "web/d"]) world.handshakes.set(name, 20);
  world.env.advanceSync(60_000);
  // The slow server is as slow as it was; nobody has had a handshake with it.
  expect(world.state("web/a")?.reason).toMatch(/feedback: 5\d%, 80 ms, the pool 40 ms with clients' handshakes\)$/);
  expect(world.state("web/b")?.reason).toMatch(/feedback: (2[5-9]|3\d)%, 200 ms, the pool 40 ms with clients' handshakes\)$/);
  expect([world.share("web/c"), world.share("web/d")]).toEqual([100, 100]);
  // Whom probes say nothing of has all of its share, whatever its handshakes take.
  world.times.delete("web/b");
  world.env.advanceSync(60_000);
  expect(world.share("web/b")).toBe(100);
});

it("takes what clients wait for all in all before their handshakes", () => {
  const world = scene(STEERED);
  for (const name of NAMES) {
    world.handshakes.set(name, name === "web/c" ? 300 : 1);
    world.answers.set(name, name === "web/b" ? 200 : 40);
  }
  world.env.advanceSync(60_000);
  expect(NAMES.map((name) => world.share(name) < 100)).toEqual([false, true, false, false]);
});

it("takes its part of what an agent has left, and counts as moved what that is", () => {
  const world = scene(STEERED);
  world.turns("web/a", { ...UP, admission: ADMISSION_MAX / 2 });
  world.env.advanceSync(5000);
  // Half of a backend in three and a half is a seventh of the flows, of which five percent of all are 35.
  expect(world.share("web/a")).toBe(Math.round(50 * (1 - 0.05 * 7)));
});

it("lets whoever takes no flows be, and compares nobody with it", () => {
  const world = scene(STEERED);
  for (const name of ["web/c", "web/d"]) world.turns(name, { ...UP, admission: 0 });
  world.times.set("web/b", 100);
  world.env.advanceSync(60_000);
  expect([NAMES.map((name) => world.share(name)), world.steps]).toEqual([[100, 100, 0, 0], 0]);
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
