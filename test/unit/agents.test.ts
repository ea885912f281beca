// Agents beside backends: what their words come to, how they lie over what probes find, who hears of it, and the
// line on the wire. Time is fake but where there are sockets.

import { describe, expect, it } from "vitest";
import { hearAgent, parseAgentAnswer, silentAgent, withAgent } from "../../src/health/agent_answer.ts";
import { createCheckerWithAgents } from "../../src/health/agents.ts";
import type { Checker, HealthTransition } from "../../src/health/checker.ts";
import type { Outcome } from "../../src/health/judge.ts";
import type { ProbeTarget } from "../../src/health/target.ts";
import { parseAddress } from "../../src/model/address.ts";
import type { AgentHealth, PoolHealth, ProbeAgent } from "../../src/model/health_check.ts";
import type { BackendHealth } from "../../src/model/table.ts";
import { createFakeEnv, type FakeEnv } from "../support/fake_env.ts";
import { answering, freePort, raw, run, say, TIMING } from "../support/probe_world.ts";

const UP: BackendHealth = { alive: true, known: true, admission: 65536, reason: "connected", sinceMs: 1 };
const DOWN: BackendHealth = { alive: false, known: true, admission: 0, reason: "connection refused", sinceMs: 2 };

/** What lines one after the other come to, over a backend whose probes succeed. */
function over(health: BackendHealth, ...lines: readonly string[]): Pick<BackendHealth, "alive" | "admission" | "reason"> {
  let state = silentAgent(0);
  lines.forEach((line, at) => {
    const answer = parseAgentAnswer(line);
    if (answer !== null) state = hearAgent(state, answer, at + 10);
  });
  const { alive, admission, reason } = withAgent(health, state);
  return { alive, admission, reason };
}

describe("the words of an agent", () => {
  it.each([
    [["up"], true, 65536, "connected"], [["75%"], true, 49152, "agent: 75 %"], [["up 75%"], true, 49152, "agent: 75 %"],
    [["0%"], true, 0, "agent: 0 %"], [["100%"], true, 65536, "connected"], [["250%"], true, 65536, "connected"],
    [["drain"], true, 0, "agent: drain"], [["maint"], false, 0, "agent: maint"], [["down"], false, 0, "agent: down"],
    [["stopped # going home"], false, 0, "agent: down (going home)"], [["fail#disk full"], false, 0, "agent: down (disk full)"],
    [["UP,50%\tready maxconn:30"], true, 32768, "agent: 50 %"], [["drain, 50%"], true, 0, "agent: drain, 50 %"],
    [["down", "up"], true, 65536, "connected"], [["down", "50%"], false, 0, "agent: down, 50 %"], [["down", "50%", "up"], true, 32768, "agent: 50 %"],
    [["drain", "up"], true, 0, "agent: drain"], [["drain", "ready"], true, 65536, "connected"], [["maint", "ready up 10%"], true, 6554, "agent: 10 %"],
    [["down # a", "down # b"], false, 0, "agent: down (a)"], [["up down"], false, 0, "agent: down"],
    [["down", "no word of it"], false, 0, "agent: down"], [["down", "# up"], false, 0, "agent: down"], [["down", ""], false, 0, "agent: down"],
  ])("%j", (lines, alive, admission, reason) => {
    expect(over(UP, ...lines)).toEqual({ alive, admission, reason });
  });

  it("raise nobody whom probes have down, and add to a drain of the backend's own", () => {
    expect(over(DOWN, "up ready 100%")).toEqual({ alive: false, admission: 0, reason: "connection refused" });
    expect(over({ ...UP, admission: 0, reason: "status 503 with x-drain: 1" }, "50%"))
      .toEqual({ alive: true, admission: 0, reason: "status 503 with x-drain: 1" });
  });

  it.each(["", "hello", "50", "%", "-5%", "5.5%", "1000000%", "upp", "toString", "constructor %", "# down"])("%j is none", (line) => {
    expect(parseAgentAnswer(line)).toBeNull();
  });

  it("have a note of bounded length, without control characters", () => {
    const note = parseAgentAnswer(`down #\u001b[2J${"x".repeat(500)}`)?.note ?? "";
    expect(note).toHaveLength(100);
    expect(note).toMatch(/^·\[2Jx+$/);
  });
});

const AGENT: ProbeAgent = { port: 9777, send: null, intervalMs: 1000, timeoutMs: 500, jitter: 0, source: null };
const TCP: PoolHealth = { type: "tcp", ...TIMING, intervalMs: 1000, timeoutMs: 400, rise: 2, fall: 2, agent: AGENT };

/** One server, its agent, and who hears of them. */
class Beside {
  readonly env: FakeEnv = createFakeEnv();
  readonly heard: HealthTransition[] = [];
  readonly asked: ProbeTarget[] = [];
  /** null: it cannot be reached. */
  line: string | null = "up";
  isUp = true;
  readonly checker: Checker;

  constructor(initial: ReadonlyMap<string, BackendHealth> = new Map()) {
    this.checker = createCheckerWithAgents({
      env: this.env, initial, onTransition: (transition) => { this.heard.push(transition); },
      probe: (target): Promise<Outcome> => {
        this.asked.push(target);
        const outcome = { conclusive: true, durationMs: 1 };
        if (target.health.type !== "agent") {
          return Promise.resolve({ ...outcome, ok: this.isUp, reason: this.isUp ? "connected" : "connection refused" });
        }
        return Promise.resolve(this.line === null ? { ...outcome, ok: false, conclusive: false, reason: "connection refused" }
          : { ...outcome, ok: true, reason: this.line, said: this.line });
      },
    });
  }

  update(health: PoolHealth = TCP, port = 80, names: readonly string[] = ["web/a"]): void {
    const address = parseAddress("10.0.0.1")!;
    this.checker.update(names.map((name) =>
      ({ name, pool: name.slice(0, name.indexOf("/")), backend: "a", address, port, health, through: [] })));
  }

  get health(): BackendHealth | undefined { return this.checker.states().get("web/a"); }
  get told(): string[] { return this.heard.map(({ from, to, reason }) => `${from} ${to} ${reason}`); }
}

describe("a checker with agents", () => {
  it("asks the agent at its port by its own schedule, and tells what both come to", async () => {
    const world = new Beside();
    world.update();
    await world.env.advance(2500);
    expect(world.told).toEqual(["unknown up connected"]);
    const agents = world.asked.filter(({ health }) => health.type === "agent");
    expect(agents.length).toBeGreaterThanOrEqual(2);
    expect(agents[0]).toMatchObject({ name: "web/a", port: 9777, through: [] });
    expect(world.asked.filter(({ health }) => health.type === "tcp").every(({ port }) => port === 80)).toBe(true);
    world.line = "75%";
    await world.env.advance(1000);
    expect(world.health).toMatchObject({ alive: true, admission: 49152, reason: "agent: 75 %" });
    world.line = "drain";
    await world.env.advance(1000);
    world.line = "ready up 100%";
    await world.env.advance(1000);
    expect(world.told.slice(1)).toEqual(["up up agent: 75 %", "up draining agent: drain, 75 %", "draining up connected"]);
    expect(world.health).toMatchObject({ admission: 65536, reason: "connected" });
    expect(world.heard.at(-1)?.health).toEqual(world.health);
    expect(world.heard.map(({ probes }) => probes.map(({ reason }) => reason)))
      .toEqual([["connected"], ["75%"], ["drain"], ["ready up 100%"]]);
    expect(world.checker.counts().started).toBe(world.asked.length);
  });

  it("lets what it said last hold while it cannot be reached, and probes have the last word", async () => {
    const world = new Beside();
    world.update();
    world.line = "down # full";
    await world.env.advance(2000);
    world.line = null;
    await world.env.advance(5000);
    expect(world.health).toMatchObject({ alive: false, reason: "agent: down (full)" });
    world.isUp = false;
    await world.env.advance(5000);
    expect(world.health).toMatchObject({ alive: false, reason: "connection refused" });
    world.line = "up";
    await world.env.advance(3000);
    expect(world.health).toMatchObject({ alive: false, reason: "connection refused" });
    world.isUp = true;
    await world.env.advance(5000);
    expect(world.health).toMatchObject({ alive: true, admission: 65536 });
    expect(world.heard.filter(({ to }) => to === "down")).toHaveLength(1);
  });

  it("speaks alone where there are no probes", async () => {
    const world = new Beside();
    world.update({ type: "none", agent: AGENT });
    expect(world.health).toMatchObject({ alive: true, known: true, admission: 65536 });
    world.line = "maint";
    await world.env.advance(1500);
    expect(world.told).toEqual(["up down agent: maint"]);
    expect(world.asked.every(({ health }) => health.type === "agent")).toBe(true);
  });

  it("is forgotten with its key, and begins anew elsewhere", async () => {
    const world = new Beside();
    world.update();
    world.line = "50%";
    await world.env.advance(1500);
    world.update({ ...TCP, agent: { ...AGENT, intervalMs: 3000 } });
    expect(world.health?.admission).toBe(32768);
    world.update({ ...TCP, agent: { ...AGENT, port: 9778 } });
    expect(world.health?.admission).toBe(65536);
    const { agent: _agent, ...bare } = TCP;
    world.line = "down";
    await world.env.advance(1500);
    expect(world.health?.alive).toBe(false);
    world.update(bare);
    expect(world.health).toMatchObject({ alive: true, admission: 65536 });
    const before = world.asked.length;
    await world.env.advance(2500);
    expect(world.asked.slice(before).every(({ health }) => health.type === "tcp")).toBe(true);
    world.checker.stop();
    expect(world.env.timers()).toBe(0);
  });

  it("is asked once for all backends that have it, and who comes late knows what it said", async () => {
    const world = new Beside();
    world.update(TCP, 80, ["web/a", "api/a"]);
    const asked = (): number => world.asked.filter(({ health }) => health.type === "agent").length;
    world.line = "50%";
    await world.env.advance(3000);
    expect(asked()).toBe(3);
    expect(world.checker.states().get("web/a")).toMatchObject({ admission: 32768, reason: "agent: 50 %" });
    expect(world.checker.states().get("api/a")).toEqual(world.health);
    // From now on it says nothing of its percentage.
    world.line = "up";
    world.update(TCP, 80, ["api/a", "more/a"]);
    expect(world.checker.states().get("more/a")).toEqual(world.checker.states().get("api/a"));
    await world.env.advance(3000);
    expect(asked()).toBe(6);
    expect(world.checker.states().get("more/a")).toMatchObject({ admission: 32768 });
    world.line = "drain";
    await world.env.advance(1000);
    expect(world.told.slice(-2)).toEqual(["up draining agent: drain, 50 %", "up draining agent: drain, 50 %"]);
    expect(world.heard.slice(-2).map(({ name }) => name)).toEqual(["api/a", "more/a"]);
  });

  it("is the first that is heard of who comes late, where there are no probes", async () => {
    const world = new Beside();
    const alone: PoolHealth = { type: "none", agent: AGENT };
    world.update(alone);
    world.line = "down";
    await world.env.advance(1500);
    world.update(alone, 80, ["web/a", "api/a"]);
    world.update(alone, 80, ["web/a", "api/a"]);
    expect(world.checker.states().get("api/a")).toMatchObject({ alive: false });
    expect(world.heard.map(({ name, from, to, reason }) => [name, from, to, reason]))
      .toEqual([["web/a", "up", "down", "agent: down"], ["api/a", "unknown", "down", "agent: down"]]);
  });

  it("counts the probes' failures whatever the agent is asked", async () => {
    const world = new Beside();
    world.update();
    await world.env.advance(1500);
    world.isUp = false;
    await world.env.advance(1000);
    world.update({ ...TCP, agent: { ...AGENT, jitter: 0.1 } });
    await world.env.advance(1000);
    expect(world.health?.alive).toBe(false);
  });

  it("is believed over a restart, until it has been asked", async () => {
    const said: BackendHealth = { alive: false, known: true, admission: 0, reason: "agent: down (full)", sinceMs: 7 };
    const world = new Beside(new Map([["web/a", said]]));
    world.update();
    expect(world.health).toEqual(said);
    await world.env.advance(1500);
    expect(world.health).toMatchObject({ alive: true, admission: 65536, reason: "connected" });
    const silent = new Beside(new Map([["web/a", said]]));
    silent.line = null;
    silent.update();
    await silent.env.advance(1500);
    expect(silent.health).toMatchObject({ alive: true });
    const refused: BackendHealth = { ...said, reason: "connection refused" };
    const down = new Beside(new Map([["web/a", refused]]));
    down.isUp = false;
    down.update();
    await down.env.advance(1500);
    expect(down.health).toMatchObject({ alive: false, reason: "connection refused" });
  });
});

describe("an agent on the wire", () => {
  const ASK: AgentHealth = { type: "agent", send: null, ...TIMING };

  it.each([["127.0.0.1", false], ["127.0.0.1", true], ["::1", false]])("at %s says a line, slow: %s", async (host, slow) => {
    const port = await raw((socket) => { void say(socket, "up 75% # fine\nand more\n", slow); }, host);
    expect(await run(port, ASK, host)).toMatchObject({ ok: true, conclusive: true, said: "up 75% # fine" });
  });

  it("is sent what is wished, and may end its line by hanging up", async () => {
    let heard = "";
    const port = await answering((bytes, socket) => { heard = bytes.toString(); socket.end("drain"); return null; });
    expect(await run(port, { ...ASK, send: { bytes: Buffer.from("hello\n"), isHex: false } })).toMatchObject({ ok: true, said: "drain" });
    expect(heard).toBe("hello\n");
  });

  it("that is silent, gone or endless says nothing", async () => {
    const silent = await raw((socket) => { socket.resume(); });
    expect(await run(silent, { ...ASK, timeoutMs: 400 })).toMatchObject(
      { ok: false, conclusive: false, reason: "the agent cannot be heard: timeout after 400 ms while waiting for the agent's line" });
    const empty = await raw((socket) => { socket.end("\n"); });
    expect(await run(empty, ASK)).toMatchObject({ ok: false, conclusive: false, reason: "the agent cannot be heard: it said nothing" });
    expect(await run(await freePort(), ASK)).toMatchObject(
      { ok: false, conclusive: false, reason: "the agent cannot be heard: connection refused" });
    const endless = await raw((socket) => { socket.write("x".repeat(100_000)); });
    const outcome = await run(endless, ASK);
    expect(parseAgentAnswer(outcome.said ?? "")).toBeNull();
  });
});
