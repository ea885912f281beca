// When what is known of backends is written, under a fake clock.

import { describe, expect, it } from "vitest";
import { HealthKeeper } from "../../src/supervisor/health_keeper.ts";
import { createFakeEnv } from "../support/fake_env.ts";

function begin() {
  const env = createFakeEnv();
  const written: number[] = [];
  const startMs = env.clock.monotonicMs();
  const keeper = new HealthKeeper({ env, write: () => { written.push(env.clock.monotonicMs() - startMs); } });
  return { env, written, keeper };
}

describe("HealthKeeper", () => {
  it("writes at once what comes alone", async () => {
    const { env, written, keeper } = begin();
    keeper.keep();
    expect(written).toEqual([0]);
    await env.advance(1000);
    keeper.keep();
    await env.advance(1000);
    expect(written).toEqual([0, 1000]);
    expect(env.timers()).toBe(0);
  });

  it("writes five times in a second of a thousand verdicts, and the last of them too", async () => {
    const { env, written, keeper } = begin();
    for (let at = 0; at < 1000; at++) {
      keeper.keep();
      await env.advance(1);
    }
    await env.advance(1000);
    expect(written).toEqual([0, 200, 400, 600, 800, 1000]);
    expect(env.timers()).toBe(0);
  });

  it("writes at its end what waits, and nothing that does not", async () => {
    const { env, written, keeper } = begin();
    keeper.keep();
    keeper.keep();
    await env.advance(50);
    keeper.close();
    expect(written).toEqual([0, 50]);
    keeper.close();
    await env.advance(1000);
    expect(written).toEqual([0, 50]);
  });

  it("goes on after a write that failed", async () => {
    const env = createFakeEnv();
    let attempts = 0;
    const keeper = new HealthKeeper({ env, write: () => {
      attempts += 1;
      throw new Error("no space");
    } });
    keeper.keep();
    keeper.keep();
    await env.advance(1000);
    expect(attempts).toBe(2);
    expect(env.messages("warn")).toEqual(Array(2).fill("health cannot be kept for the next start"));
  });
});
