// The fake Env is what other tests stand on, so it is tested like anything else.

import { describe, expect, it } from "vitest";
import { createFakeEnv, seededRandom } from "../support/fake_env.ts";

describe("the fake clock", () => {
  it("fires in order of time, then of setting, and lets promises settle in between", async () => {
    const env = createFakeEnv();
    const called: string[] = [];
    env.clock.after(20, () => called.push("late"));
    env.clock.after(10, () => { void Promise.resolve().then(() => called.push("promised")); });
    env.clock.after(10, () => called.push("early, second"));
    env.clock.after(31, () => called.push("never"));
    await env.advance(30);
    expect(called).toEqual(["promised", "early, second", "late"]);
    expect(env.timers()).toBe(1);
    expect(env.nextTimerMs()).toBe(1);
  });

  it("timers set by timers run in the same advance, at their own time", () => {
    const env = createFakeEnv();
    const start = env.clock.monotonicMs();
    const seen: number[] = [];
    const again = (): void => {
      seen.push(env.clock.monotonicMs() - start);
      env.clock.after(10, again);
    };
    env.clock.after(10, again);
    env.advanceSync(35);
    expect(seen).toEqual([10, 20, 30]);
    expect(env.clock.monotonicMs() - start).toBe(35);
    expect(env.clock.monotonicNs()).toBe(BigInt(env.clock.monotonicMs()) * 1_000_000n);
  });

  it("stepping the wall leaves the monotonic clock alone", () => {
    const env = createFakeEnv({ wallMs: 1000 });
    const before = env.clock.monotonicMs();
    env.stepWall(-400);
    expect([env.clock.wallMs(), env.clock.monotonicMs() - before]).toEqual([600, 0]);
  });

  it("a cancelled timer does not fire", async () => {
    const env = createFakeEnv();
    const cancel = env.clock.after(1, () => { throw new Error("fired"); });
    cancel();
    cancel();
    await env.advance(10);
    expect(env.timers()).toBe(0);
  });
});

describe("the fake rest", () => {
  it("chance repeats with the seed and differs without it", () => {
    const draw = (seed: number): number[] => Array.from({ length: 4 }, seededRandom(seed));
    expect(draw(1)).toEqual(draw(1));
    expect(draw(1)).not.toEqual(draw(2));
    const mean = Array.from({ length: 10_000 }, seededRandom(3)).reduce((a, b) => a + b) / 10_000;
    expect(Math.abs(mean - 0.5)).toBeLessThan(0.02);
  });

  it("files behave as the real ones", () => {
    const { files, stored } = createFakeEnv();
    files.writeAtomic("/state/main/seed", "0011", 0o600);
    files.append("/state/main/log", "a", 0o640);
    files.append("/state/main/log", "b", 0o640);
    expect(Buffer.from(files.read("/state/main/log") ?? []).toString()).toBe("ab");
    expect(files.list("/state/main")).toEqual(["log", "seed"]);
    expect(files.list("/state")).toEqual(["main"]);
    expect(stored.get("/state/main/seed")?.mode).toBe(0o600);
    files.remove("/state/main/seed");
    expect(files.read("/state/main/seed")).toBeNull();
    expect(files.exists("/state/main")).toBe(true);
  });

  it("keeps what was logged, and refuses sockets that nobody passed", () => {
    const env = createFakeEnv();
    env.log.warn({ pool: "web" }, "down");
    expect(env.messages("warn")).toEqual(["down"]);
    expect(env.logged[0]?.fields).toEqual({ pool: "web" });
    expect(() => env.net.connect({ port: 1 })).toThrow("fake Env");
  });
});
