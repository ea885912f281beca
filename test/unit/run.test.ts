// What `run` adds to an instance: reloads asked for by signals, the metrics listener, the watched file. Time
// is the test's, except that file events come when the kernel sends them.

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { keepObserveServer } from "../../src/cli/observing.ts";
import { createReloader } from "../../src/cli/run.ts";
import { watchConfig } from "../../src/cli/watch_config.ts";
import type { Pointsman } from "../../src/create.ts";
import { createEnv } from "../../src/env_real.ts";
import { Failure } from "../../src/errors.ts";
import { parseAddress } from "../../src/model/address.ts";
import type { Supervisor } from "../../src/supervisor/contract.ts";
import { createEventLog } from "../../src/supervisor/events.ts";
import { createFakeEnv, settle } from "../support/fake_env.ts";

describe("reloads", () => {
  it("before the start are kept, and of a storm one follows the one under way", async () => {
    const env = createFakeEnv();
    const asked: string[] = [];
    let answer: (() => void) | null = null;
    const reload = (actor: string): Promise<object> => new Promise((resolve) => {
      asked.push(actor);
      answer = () => { resolve({ revision: asked.length, changed: asked.length === 1 }); };
    });
    const reloader = createReloader(env.log);
    reloader.request("early");
    expect(asked).toEqual([]);
    reloader.open({ supervisor: { reload } } as unknown as Pointsman);
    for (let n = 0; n < 200; n += 1) reloader.request(`storm ${n}`);
    expect(asked).toEqual(["early"]);
    for (let n = 0; n < 3; n += 1) {
      answer!();
      await settle();
    }
    expect(asked).toEqual(["early", "storm 199"]);
    expect(env.messages("info")).toEqual(["reloaded", "reloaded: nothing to change"]);
  });

  it("that are refused do not end reloading", async () => {
    const asked: string[] = [];
    const reload = (actor: string): Promise<never> => {
      asked.push(actor);
      return Promise.reject(new Failure("FILE_UNREADABLE", { path: "/f" }, "gone"));
    };
    const reloader = createReloader(createFakeEnv().log);
    reloader.open({ supervisor: { reload } } as unknown as Pointsman);
    for (const actor of ["one", "two"]) {
      reloader.request(actor);
      await settle();
    }
    expect(asked).toEqual(["one", "two"]);
  });
});

describe("the metrics listener", () => {
  it("on a port in use is told once and tried again until the port is free", async () => {
    const env = createFakeEnv();
    const other = createServer();
    await new Promise<void>((resolve) => { other.listen(0, "127.0.0.1", resolve); });
    const { port } = other.address() as AddressInfo;
    const conditions = new Map<string, string | null>();
    const supervisor = {
      config: () => ({ observe: { listen: { address: parseAddress("127.0.0.1"), port } } }),
      events: createEventLog(env.clock),
      note: () => undefined,
      setCondition: (name: string, reason: string | null) => { conditions.set(name, reason); },
    } as unknown as Supervisor;
    const end = keepObserveServer(env, supervisor);
    await vi.waitFor(() => { expect(conditions.get("observe")).toMatch(/in use/); });
    await env.advance(5000);
    await vi.waitFor(() => { expect(env.timers()).toBe(1); });
    expect(env.messages("error")).toHaveLength(1);
    await new Promise((resolve) => { other.close(resolve); });
    await env.advance(5000);
    await vi.waitFor(() => { expect(conditions.get("observe")).toBeNull(); });
    expect((await fetch(`http://127.0.0.1:${port}/healthz`)).status).toBe(200);
    await end();
    expect(env.timers()).toBe(0);
  });
});

describe("a watched file", () => {
  const directory = mkdtempSync(join(tmpdir(), "pm-watch-"));
  afterEach(() => { rmSync(directory, { recursive: true, force: true }); });

  it("is found again when its directory was replaced, which sends no event", async () => {
    const clock = createFakeEnv();
    const env = { ...createEnv({ logTo: { write: () => undefined } }), clock: clock.clock };
    const place = join(directory, "etc");
    const file = join(place, "c.yaml");
    mkdirSync(place);
    writeFileSync(file, "one");
    let changes = 0;
    const end = await watchConfig(env, file, () => { changes += 1; });
    rmSync(place, { recursive: true });
    await clock.advance(20_000);
    expect(changes).toBe(0);
    mkdirSync(place);
    writeFileSync(file, "two");
    await clock.advance(20_000);
    expect(changes).toBe(1);
    await clock.advance(60_000);
    expect(changes).toBe(1);
    await end();
    expect(clock.timers()).toBe(0);
  });
});
