// Quorums of pools: lost at once, regained after a while, told once each; who is told, and what override is refused.

import { describe, expect, it } from "vitest";
import { runCli } from "../../src/cli/program.ts";
import type { Io } from "../../src/cli/io.ts";
import type { Client } from "../../src/api/client.ts";
import type { Env } from "../../src/env.ts";
import { Failure } from "../../src/errors.ts";
import type { PoolConfig, PoolQuorum } from "../../src/model/config.ts";
import type { BackendHealth, Intent, Override } from "../../src/model/table.ts";
import { ADMISSION_MAX } from "../../src/model/table.ts";
import { poolViews, quorumWarnings } from "../../src/supervisor/pool_views.ts";
import { QuorumHooks } from "../../src/supervisor/quorum_hooks.ts";
import { Quorums, refuseBelowQuorum, tellQuorum } from "../../src/supervisor/quorums.ts";
import { configOf } from "../support/configs.ts";
import { createFakeEnv, settle } from "../support/fake_env.ts";

const UP: BackendHealth = { alive: true, known: true, admission: ADMISSION_MAX, reason: "status 200", sinceMs: 5 };
const DOWN: BackendHealth = { ...UP, alive: false, admission: 0, reason: "refused" };
const UNKNOWN: BackendHealth = { ...UP, known: false };
const QUORUM: PoolQuorum = {
  minimum: { count: 2 }, regainAfterMs: 10_000, up: ["/bin/up", "a b"], down: ["/bin/down"], timeoutMs: 5000,
};

interface Started {
  readonly command: string;
  readonly variables: Readonly<Record<string, string>>;
  readonly signal: AbortSignal;
  end(status: number): void;
}

interface World {
  readonly env: ReturnType<typeof createFakeEnv>;
  readonly started: readonly Started[];
  readonly events: readonly string[];
  readonly quorums: Quorums;
  readonly hooks: QuorumHooks;
  /** Of a, b and c. */
  see(...health: BackendHealth[]): void;
  change(quorum: PoolQuorum | null): void;
  /** Has the pool other rules, and nobody looks. */
  rule(rules: Partial<PoolConfig>): void;
  serve(): void;
  /** Nothing is known of health, nor will it be. */
  forget(): void;
  intent(): Intent;
}

function worldOf(isAllowed = true, isServed = true): World {
  let isServing = isServed;
  const started: Started[] = [];
  const exec = {
    runGroup: (command: string, args: readonly string[], { variables, signal }: { variables: Record<string, string>; signal: AbortSignal }) =>
      new Promise((resolve) => {
        const end = (status: number): void => { resolve({ status, stdout: "", stderr: "why\n" }); };
        signal.addEventListener("abort", () => { end(137); });
        started.push({ command: [command, ...args].join("|"), variables, signal, end });
      }),
  } as unknown as Env["exec"];
  const env = createFakeEnv();
  const events: string[] = [];
  let intent: Intent = {
    config: configOf({ pools: { web: ["a", "b", "c"] }, rules: { web: { quorum: QUORUM } }, services: [{ name: "web" }] }),
    hashSeed: 7n, overrides: [], nowMs: 1000, health: new Map(["a", "b", "c"].map((name) => [`web/${name}`, UNKNOWN])),
  };
  const hooks = new QuorumHooks({
    env: { clock: env.clock, log: env.log, variables: { PATH: "/x", SECRET: "s" }, exec }, isAllowed, record: (_, message) => { events.push(message); },
  });
  const quorums = new Quorums({
    env, intent: () => intent, isServing: () => isServing, onChange: (change) => {
      tellQuorum(change, env.log, (_, subject, message) => { events.push(`${subject} ${message}`); });
      hooks.tell(change);
    },
  });
  const see = (...health: BackendHealth[]): void => {
    intent = { ...intent, health: new Map(["a", "b", "c"].map((name, at) => [`web/${name}`, health[at]!])) };
    quorums.look();
  };
  const rule = (rules: Partial<PoolConfig>): void => {
    intent = { ...intent, config: { ...intent.config, pools: intent.config.pools.map((pool) => ({ ...pool, ...rules })) } };
  };
  const change = (quorum: PoolQuorum | null): void => {
    rule({ quorum });
    quorums.look();
  };
  const serve = (): void => {
    isServing = true;
    quorums.look();
  };
  const forget = (): void => {
    intent = { ...intent, health: new Map() };
    quorums.look();
  };
  return { env, started, events, quorums, hooks, see, change, rule, serve, forget, intent: () => intent };
}

const LOST = "web has lost its quorum: 1 of 3 backends are up, and 2 are to be";

describe("a quorum", () => {
  it("is unknown until enough have been probed, then found once and told to the hook alone", () => {
    const { quorums, see, started, events } = worldOf();
    quorums.look();
    see(UP, UNKNOWN, UNKNOWN);
    expect([quorums.found().get("web"), started.length]).toEqual([null, 0]);
    see(UP, UP, UNKNOWN);
    expect(quorums.found().get("web")).toBe(true);
    see(UP, UP, UP);
    expect([quorums.found().get("web"), started.map(({ command }) => command), events]).toEqual([true, ["/bin/up|a b"], []]);
    expect(started[0]!.variables).toEqual({
      PATH: "/x", LC_ALL: "C", POINTSMAN_POOL: "web", POINTSMAN_QUORUM: "up", POINTSMAN_UP: "3", POINTSMAN_TOTAL: "3", POINTSMAN_NEEDED: "2",
    });
  });

  it("is lost at once, and regained when there have been enough for a while without a break", async () => {
    const { env, quorums, see, change, events, intent } = worldOf();
    change({ ...QUORUM, up: null, down: null });
    see(UP, UP, DOWN);
    see(UP, DOWN, DOWN);
    see(DOWN, DOWN, DOWN);
    expect(events).toEqual([LOST]);
    see(UP, UP, DOWN);
    await env.advance(9_999);
    see(UP, DOWN, DOWN);
    see(UP, UP, DOWN);
    await env.advance(9_999);
    see(UP, UP, UP);
    expect(quorums.found().get("web")).toBe(false);
    const views = poolViews({ intent: intent(), quorums: quorums.found() });
    expect(views[0]!.quorum).toEqual({ needed: 2, met: false });
    expect(quorumWarnings(views)).toEqual(["pool web has lost its quorum: 3 of 3 backends are up, and 2 are to be"]);
    await env.advance(1);
    expect(events).toEqual([LOST, "web has its quorum again: 3 of 3 backends are up, and 2 are to be"]);
    expect(quorumWarnings(poolViews({ intent: intent(), quorums: quorums.found() }))).toEqual([]);
  });

  it("counts no sorry backend, up or not", () => {
    const { quorums, see, rule, intent } = worldOf();
    rule({ sorry: "c" });
    see(UP, DOWN, UP);
    expect(quorums.found().get("web")).toBe(false);
    see(UP, UP, DOWN);
    expect(poolViews({ intent: intent() })[0]).toMatchObject({ backends: 2, backendsUp: 2 });
  });

  it("is found without probes where nobody is probed", () => {
    const { quorums, forget } = worldOf();
    forget();
    expect(quorums.found().get("web")).toBe(true);
  });

  it("is found at once where it is lost, and elsewhere when its pool is served", () => {
    const { quorums, see, serve, started } = worldOf(true, false);
    see(UP, UP, UP);
    expect([quorums.found().get("web"), started.length]).toEqual([null, 0]);
    serve();
    expect([quorums.found().get("web"), started.map(({ command }) => command)]).toEqual([true, ["/bin/up|a b"]]);
    const other = worldOf(true, false);
    other.see(DOWN, DOWN, UP);
    expect([other.quorums.found().get("web"), other.started.map(({ command }) => command)]).toEqual([false, ["/bin/down"]]);
  });

  it("is regained by the rules in force when its time is over, whenever they came", async () => {
    const { env, quorums, see, change, rule, events } = worldOf();
    const rules = { ...QUORUM, up: null, down: null };
    change(rules);
    const regains = (): number => events.filter((each) => each.includes("again")).length;
    see(UP, DOWN, DOWN);
    see(UP, UP, DOWN);
    await env.advance(4_000);
    change({ ...rules, regainAfterMs: 60_000 });
    await env.advance(55_999);
    expect(regains()).toBe(0);
    await env.advance(1);
    expect(regains()).toBe(1);
    see(UP, DOWN, DOWN);
    see(UP, UP, DOWN);
    await env.advance(4_000);
    change({ ...rules, regainAfterMs: 3_000 });
    expect([regains(), env.nextTimerMs()]).toEqual([2, null]);
    see(UP, DOWN, DOWN);
    see(UP, UP, DOWN);
    rule({ quorum: { ...rules, minimum: { count: 3 } } });
    await env.advance(60_000);
    expect([regains(), quorums.found().get("web"), env.nextTimerMs()]).toEqual([2, false, null]);
    see(UP, UP, UP);
    expect(env.nextTimerMs()).not.toBeNull();
    quorums.stop();
    see(UP, DOWN, UP);
    expect([[...quorums.found()], env.nextTimerMs()]).toEqual([[], null]);
  });

  it("comes and goes with the config, and no timer outlives it", async () => {
    const { env, quorums, see, change, events } = worldOf();
    change({ ...QUORUM, up: null, down: null });
    see(UP, DOWN, DOWN);
    see(UP, UP, DOWN);
    change(null);
    expect([[...quorums.found()], env.nextTimerMs()]).toEqual([[], null]);
    change({ ...QUORUM, minimum: { percent: 100 }, up: null, down: null });
    expect(events.at(-1)).toBe("web has lost its quorum: 2 of 3 backends are up, and 3 are to be");
    see(UP, UP, UP);
    quorums.stop();
    await env.advance(60_000);
    expect(events.length).toBe(2);
  });
});

describe("the hooks", () => {
  it("run one after the other, the last word alone, and nothing where the last one said it", async () => {
    const { started, env, see } = worldOf();
    see(DOWN, DOWN, DOWN);
    see(UP, UP, UP);
    await env.advance(10_000 - 5001);
    started[0]!.end(0);
    await settle();
    expect(started.map(({ command }) => command)).toEqual(["/bin/down"]);
    await env.advance(5001);
    see(DOWN, DOWN, DOWN);
    expect(started.map(({ command }) => command)).toEqual(["/bin/down", "/bin/up|a b"]);
    started[1]!.end(0);
    await settle();
    expect(started.map(({ command }) => command)).toEqual(["/bin/down", "/bin/up|a b", "/bin/down"]);
  });

  it("are killed when their time is over, and what fails is told", async () => {
    const { started, env, see, events } = worldOf();
    see(DOWN, DOWN, DOWN);
    await env.advance(5000);
    expect([started[0]!.signal.aborted, events.at(-1)]).toEqual([true, "quorum.down was killed after 5000 ms"]);
    see(UP, UP, UP);
    await env.advance(10_000);
    started[1]!.end(3);
    await settle();
    expect(events.at(-1)).toBe("quorum.up failed with status 3: why");
  });

  it("run nothing where that is not allowed, and end with the supervisor", async () => {
    const { started, see, events } = worldOf(false);
    see(DOWN, DOWN, DOWN);
    expect([started, events.at(-1)]).toEqual([[], expect.stringContaining("begin with run --exec-hooks")]);
    const other = worldOf();
    other.see(UP, UP, UP);
    other.hooks.stop();
    expect(other.started[0]!.signal.aborted).toBe(true);
    other.hooks.tell({ pool: other.intent().config.pools[0]!, isMet: false, isFirst: false, up: 0, total: 3, needed: 2 });
    await settle();
    expect([other.started.length, other.events]).toEqual([1, []]);
    const late = worldOf();
    late.hooks.stop();
    late.see(DOWN, DOWN, DOWN);
    expect([late.started, late.events]).toEqual([[], [expect.stringContaining("lost its quorum")]]);
  });
});

describe("an override", () => {
  const override = (name: string, change: Override["change"]): Override =>
    ({ target: `web/${name}`, change, actor: "ann", reason: null, atMs: 1, expiresAtMs: null });

  it("is refused where the pool would have too few, and not where it takes nothing away", () => {
    const { see, intent } = worldOf();
    const refused = (name: string, change: Override["change"]): string | null => {
      try {
        refuseBelowQuorum(intent(), override(name, change));
        return null;
      } catch (error) {
        return error instanceof Failure ? `${error.code}: ${error.message}` : String(error);
      }
    };
    see(UP, UP, UP);
    expect(refused("a", { kind: "drain" })).toBeNull();
    see(UP, UP, DOWN);
    const message = "BELOW_QUORUM: web would have 1 of 3 backends up, fewer than the 2 of its quorum";
    expect([refused("a", { kind: "drain" }), refused("b", { kind: "maintenance" })]).toEqual([message, message]);
    expect(refused("a", { kind: "weight", weight: 0 })).toContain("1 of 2 backends up");
    expect([refused("a", { kind: "weight", weight: 5 }), refused("c", { kind: "maintenance" })]).toEqual([null, null]);
    see(UP, DOWN, DOWN);
    expect([refused("b", { kind: "drain" }), refused("a", { kind: "drain" })])
      .toEqual([null, "BELOW_QUORUM: web would have 0 of 3 backends up, fewer than the 2 of its quorum"]);
    see(UP, UP, DOWN);
    // The clock was set back since: the book has one override of each role all the same.
    const later = { ...override("a", { kind: "weight", weight: 7 }), atMs: 900 };
    expect(() => { refuseBelowQuorum({ ...intent(), overrides: [later] }, override("a", { kind: "weight", weight: 0 })); }).toThrow("1 of 2");
  });

  it.each([
    { argv: "drain a", tty: false, says: false, asked: 0, forced: [undefined], code: 1 },
    { argv: "drain a --force", tty: false, says: false, asked: 0, forced: [true], code: 0 },
    { argv: "maintenance a", tty: true, says: false, asked: 1, forced: [undefined], code: 1 },
    { argv: "maintenance a", tty: true, says: true, asked: 1, forced: [undefined, true], code: 0 },
  ])("is asked about on a terminal, and else forced: %j", async ({ argv, tty, says, asked, forced, code }) => {
    const requests: (boolean | undefined)[] = [];
    let questions = 0;
    let err = "";
    const client = {
      override: ({ force, change }: { force?: boolean; change: unknown }) => {
        requests.push(force);
        if (force !== true) return Promise.reject(new Failure("BELOW_QUORUM", { pool: "web", up: 1, needed: 2 }, "too few"));
        return Promise.resolve({ target: "web/a", change, atMs: 0, expiresAtMs: null });
      },
      close: () => Promise.resolve(),
    } as unknown as Client;
    const io: Io = {
      env: createFakeEnv(), isTty: tty, columns: 80, actor: "tester", out: () => undefined, err: (text) => { err += text; },
      confirm: () => { questions += 1; return Promise.resolve(says); },
      interrupted: new AbortController().signal, onHangup: () => () => undefined, onUpgradeSignal: () => () => undefined, connect: () => client,
    };
    expect([await runCli(argv.split(" "), io), requests, questions]).toEqual([code, forced, asked]);
    expect(err.includes("nothing was changed")).toBe(code === 1);
  });
});
