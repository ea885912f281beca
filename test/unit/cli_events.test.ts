// The noun `events`: how events are laid out, and watching through restarts, by a real socket. The supervisors behind
// it live in simulated worlds, and the watcher's waits pass when the test says so.

import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { connectClient, type Client } from "../../src/api/client.ts";
import { listenOnSocket } from "../../src/api/listen.ts";
import type { PointsmanEvent } from "../../src/api/schemas.ts";
import { createApi } from "../../src/api/server.ts";
import { layEvent, layTranscript, printEvents, type EventsOptions } from "../../src/cli/events.ts";
import type { Io } from "../../src/cli/io.ts";
import { createEnv } from "../../src/env_real.ts";
import { Failure } from "../../src/errors.ts";
import type { Supervisor } from "../../src/supervisor/contract.ts";
import { createFakeEnv } from "../support/fake_env.ts";
import { World } from "../support/world.ts";

const PROBE = { atMs: 1_800_000_000_000, durationMs: 12.5, ok: false, conclusive: true, reason: "status 503" };
const EVENT: PointsmanEvent = {
  id: 7, atMs: 1_800_000_000_000, kind: "health", subject: "web/a", message: "is down: status 503",
  fields: { from: "up", to: "down", probes: [PROBE, { ...PROBE, conclusive: false, reason: "EMFILE" }] },
};

describe("an event as it is printed", () => {
  it("is one line, and its transcript one for each probe", () => {
    expect(layEvent(EVENT)).toMatch(/^\S+ \S+ {2}health {6}web\/a: is down: status 503\n$/);
    expect(layTranscript(EVENT)).toMatch(/^ {4}\S+ \S+ {2}failed after 12\.5 ms: status 503\n {4}\S+ \S+ {2}unsaid after 12\.5 ms: EMFILE\n$/);
  });

  it.each([{}, { probes: 7 }, { probes: [{ reason: "of another version" }] }])("has no transcript in %j", (fields) => {
    expect(layTranscript({ ...EVENT, fields })).toBe("");
  });
});

const directory = mkdtempSync(join(tmpdir(), "pm-events-"));
const path = join(directory, "control.sock");
const real = createEnv({ logTo: { write: () => undefined } });
const undo: (() => Promise<unknown>)[] = [];
afterEach(async () => { for (const step of undo.splice(0).reverse()) await step(); });
afterAll(() => { rmSync(directory, { recursive: true }); });

/** Answers how to close the door again. */
async function open(supervisor: Supervisor): Promise<() => Promise<void>> {
  const app = createApi({
    env: real, supervisor, onStop: () => undefined, onUpgrade: () => Promise.reject(new Error("nobody upgrades here")),
    isFrozen: () => false, opened: Promise.resolve(),
  });
  await app.ready();
  await listenOnSocket(app.server, { path, instance: "main", group: null }, real);
  undo.push(() => app.close());
  return () => app.close();
}

class Watcher {
  readonly env = createFakeEnv();
  readonly heard: PointsmanEvent[] = [];
  err = "";
  readonly stop = new AbortController();
  readonly ended: Promise<void>;

  constructor(options: Partial<EventsOptions> = {}) {
    const client = connectClient(path, "main");
    undo.push(() => client.close(), () => { this.stop.abort(); return this.ended.catch(() => undefined); });
    const out = (text: string): void => { this.heard.push(JSON.parse(text) as PointsmanEvent); };
    const io = { env: this.env, out, err: (text: string) => { this.err += text; }, interrupted: this.stop.signal } as unknown as Io;
    this.ended = printEvents(io, client, {
      output: "json", watch: true, since: 0, verbose: false, kind: [], subject: [], ...options,
    });
  }

  get ids(): number[] { return this.heard.map(({ id }) => id); }
  /** Lets it try again until it says so. */
  async says(text: string): Promise<void> {
    await expect.poll(async () => {
      await this.env.advance(10_000);
      return this.err;
    }).toContain(text);
  }
}

async function started(atMs = 0): Promise<Supervisor> {
  const world = new World();
  await world.pass(atMs);
  return await world.start({ pools: { web: ["a"] }, services: [{ name: "web" }] });
}

function idsUpTo(last: number, first = 1): number[] {
  return Array.from({ length: last - first + 1 }, (_, at) => first + at);
}

describe("watching", () => {
  it("goes on after the last event when the connection is lost, and loses and doubles none", async () => {
    const supervisor = await started();
    const close = await open(supervisor);
    const watcher = new Watcher();
    await expect.poll(() => watcher.ids).toEqual(idsUpTo(supervisor.events.lastId));
    await close();
    await watcher.says("the connection is lost; trying again\n");
    for (let n = 0; n < 20; n++) supervisor.note("supervisor", "test", `${n}`);
    await open(supervisor);
    await watcher.says("connected again\n");
    supervisor.note("supervisor", "test", "after");
    await expect.poll(() => watcher.ids).toEqual(idsUpTo(supervisor.events.lastId));
    expect(watcher.err).toBe("pointsman: the connection is lost; trying again\npointsman: connected again\n");
    watcher.stop.abort();
    await watcher.ended;
  });

  it("says how many the instance did not keep", async () => {
    const supervisor = await started();
    const close = await open(supervisor);
    const watcher = new Watcher();
    await expect.poll(() => watcher.ids.at(-1)).toBe(supervisor.events.lastId);
    await close();
    for (let n = 0; n < 1007; n++) supervisor.note("supervisor", "test", `${n}`);
    await open(supervisor);
    await watcher.says("pointsman: 7 events are lost: the instance did not keep them\n");
  });

  it("hears a new process from its first event on, even one that has told more than the old one", async () => {
    const first = await started();
    const close = await open(first);
    const watcher = new Watcher();
    await expect.poll(() => watcher.ids.at(-1)).toBe(first.events.lastId);
    await close();
    const second = await started(5000);
    for (let n = 0; n < 20; n++) second.note("supervisor", "test", `${n}`);
    await open(second);
    await watcher.says("the instance has begun anew, and so have its events; the last ones before that may be missing\n");
    await expect.poll(() => watcher.ids).toEqual([...idsUpTo(first.events.lastId), ...idsUpTo(second.events.lastId)]);
  });

  it("is denied a socket that its group does not have yet, and goes on; but not for ever", async () => {
    const denied = new Failure("PERMISSION_DENIED", { operation: "connect", capability: "" }, "no permission");
    const gate = new AbortController();
    let calls = 0;
    const client = {
      events: async function* ({ onOpen }: { onOpen?: () => void }) {
        calls += 1;
        if (calls !== 1 && calls !== 5) throw denied;
        onOpen?.();
        yield { place: `life.${calls}`, event: EVENT };
        if (calls === 5) await once(gate.signal, "abort");
      },
    } as unknown as Client;
    const env = createFakeEnv();
    let err = "";
    const io = { env, out: () => undefined, err: (text: string) => { err += text; }, interrupted: new AbortController().signal } as unknown as Io;
    const ended = printEvents(io, client, { output: "json", watch: true, since: 0, verbose: false, kind: [], subject: [] })
      .catch((error: unknown) => error);
    await env.advance(60_000);
    expect([calls, err.includes("connected again")]).toEqual([5, true]);
    gate.abort();
    await env.advance(120_000);
    expect([await ended, calls]).toEqual([denied, 5 + 6]);
  });

  it("fails where nobody listens at first", async () => {
    await expect(new Watcher().ended).rejects.toMatchObject({ code: "INSTANCE_NOT_RUNNING" });
  });

  it("tells of the kinds and subjects that are asked for", async () => {
    const supervisor = await started();
    await open(supervisor);
    const watchers = [{ kind: ["health", "plane"] }, { subject: ["web"] }, { subject: ["a"] }, { kind: ["plane"], subject: ["web"] }, { subject: ["we"] }]
      .map((options) => new Watcher({ ...options, since: supervisor.events.lastId }));
    for (const [kind, subject] of [["health", "web/a"], ["plane", "web"], ["config", "f"], ["health", "b/web"]] as const) {
      supervisor.note(kind, subject, "told");
    }
    const wanted = [["web/a", "web", "b/web"], ["web/a", "web", "b/web"], ["web/a"], ["web"], []];
    await expect.poll(() => watchers.map(({ heard }) => heard.map(({ subject }) => subject))).toEqual(wanted);
  });
});
