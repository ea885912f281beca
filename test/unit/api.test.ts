// The control API through a real Unix socket: the client's functions against the server's routes, and
// what a stranger's request meets. The supervisor behind it lives in a simulated world.

import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, describe, expect, it } from "vitest";
import { connectClient } from "../../src/api/client.ts";
import type { Client } from "../../src/api/client.ts";
import { listenOnSocket } from "../../src/api/listen.ts";
import { createApi } from "../../src/api/server.ts";
import { decodeServerSentEvents, encodeServerSentEvent } from "../../src/api/sse.ts";
import { createEnv } from "../../src/env_real.ts";
import { Failure } from "../../src/errors.ts";
import type { ConfigSketch } from "../support/configs.ts";
import { sketchText } from "../support/configs.ts";
import { World } from "../support/world.ts";

const WEB: ConfigSketch = { pools: { web: ["a", "b", "c"] }, services: [{ name: "web" }] };
const directory = mkdtempSync(join(tmpdir(), "pm-api-"));
const real = createEnv({ logTo: { write: () => undefined } });
const UPGRADES = { onUpgrade: () => Promise.reject(new Error("nobody upgrades here")), isFrozen: () => false, opened: Promise.resolve() };
const undo: (() => Promise<unknown>)[] = [];
let sockets = 0;

afterEach(async () => { for (const step of undo.splice(0).reverse()) await step(); });
afterAll(() => { rmSync(directory, { recursive: true }); });

function freshPath(): string {
  sockets += 1;
  return join(directory, `${sockets}.sock`);
}

interface Setup {
  readonly world: World;
  readonly client: Client;
  readonly app: ReturnType<typeof createApi>;
  readonly path: string;
  readonly stops: { detach: boolean; actor: string }[];
}

async function setup(): Promise<Setup> {
  const world = new World();
  const supervisor = await world.start(WEB);
  const stops: { detach: boolean; actor: string }[] = [];
  const app = createApi({ env: real, supervisor, onStop: (request) => stops.push(request), ...UPGRADES });
  const path = freshPath();
  await app.ready();
  await listenOnSocket(app.server, { path, instance: "main", group: null }, real);
  const client = connectClient(path, "main");
  undo.push(() => app.close(), () => client.close());
  return { world, client, app, path, stops };
}

async function thrown(promise: Promise<unknown>): Promise<Failure> {
  const error: unknown = await promise.then(() => null, (reason: unknown) => reason);
  if (!(error instanceof Failure)) throw new Error(`no failure but ${String(error)}`);
  return error;
}

function request(sketch: ConfigSketch): { name: string; text: string; actor: string } {
  return { name: "f.yaml", text: sketchText(sketch), actor: "ann" };
}

describe("client and server", () => {
  it("every question has its answer", async () => {
    const { client, world } = await setup();
    expect(await client.status()).toMatchObject({ instance: "main", ready: true });
    expect((await client.services()).map((each) => each.name)).toEqual(["web"]);
    expect((await client.backends()).map((each) => each.name)).toEqual(["web/a", "web/b", "web/c"]);
    expect(await client.revisions()).toMatchObject([{ revision: 1, current: true, origin: "start" }]);
    expect(await client.check(request(WEB))).toEqual({ valid: true, problems: [] });
    expect(await client.check(request({ ...WEB, invalid: "why not" }))).toMatchObject({ valid: false });
    expect(await client.plan(request(WEB))).toMatchObject({ changed: false });
    const told = await client.explain({ client: "198.51.100.7:1", service: "web" });
    const ring = await client.ring({ service: "web", down: ["a"], remove: ["web/b"] });
    expect([told.verdict, ring.size]).toEqual(["TX_FORWARDED", 251]);
    expect(new Set(ring.slots)).toEqual(new Set(["c"]));
    expect(Object.keys(ring)).toEqual(["service", "size", "backends", "slots"]);
    expect(ring.backends.map((each) => [each.name, each.slots])).toEqual([["a", 0], ["c", 251]]);
    expect(await client.recentEvents(0)).toEqual(world.supervisor.events.since(0));
  });

  it("the effective config has addresses as text and no seed", async () => {
    const { client } = await setup();
    const config = await client.config() as { pools: { backends: { address: string }[] }[]; services: object[] };
    expect(config.pools[0]?.backends[0]?.address).toBe("10.0.0.1");
    await client.apply(request({ ...WEB, seed: "00000000deadbeef" }));
    expect(JSON.stringify(await client.config())).toContain("(hidden)");
    expect(JSON.stringify(await client.config())).not.toMatch(/deadbeef|3735928559/);
  });

  it("changes: apply, rollback, reload, overrides", async () => {
    const { client, world } = await setup();
    const applied = await client.apply(request({ ...WEB, pools: { web: ["a"] } }));
    expect(applied).toMatchObject({ revision: 2, changed: true });
    expect((await client.rollback(null, "ann")).revision).toBe(3);
    world.write({ ...WEB, pools: { web: ["a", "b"] } });
    expect((await client.reload("ann")).revision).toBe(4);
    const drain = { target: "a", change: { kind: "drain" as const }, actor: "ann", reason: null, expiresInMs: null };
    const view = await client.override(drain);
    expect(await client.overrides()).toEqual([view]);
    expect(await client.removeOverride(view.id, "ann")).toEqual([view]);
    expect(await client.removeOverride(view.id, "ann")).toEqual([]);
    await client.override(drain);
    await client.override({ ...drain, target: "b", change: { kind: "weight", weight: 3 } });
    expect(await client.clearOverrides({ target: null, kind: "drain", actor: "ann" })).toHaveLength(1);
    expect(await client.clearOverrides({ target: "b", kind: null, actor: "ann" })).toHaveLength(1);
  });

  it("failures arrive as what they were, with their details", async () => {
    const { client } = await setup();
    const invalid = await thrown(client.apply(request({ ...WEB, invalid: "no such key" })));
    expect(invalid).toMatchObject({ code: "CONFIG_INVALID", details: { problems: [{ reason: "no such key" }] } });
    const unknown = await thrown(client.explain({ client: "198.51.100.7:1", service: "nope" }));
    expect(unknown).toMatchObject({ code: "UNKNOWN_SERVICE", details: { name: "nope" } });
    const revision = await thrown(client.rollback(99, "ann"));
    expect(revision).toMatchObject({ code: "UNKNOWN_REVISION", details: { revision: 99 } });
    const weight = await thrown(client.override({
      target: "a", change: { kind: "weight", weight: 65_536 }, actor: "ann", reason: null, expiresInMs: null,
    }));
    expect(weight).toMatchObject({ code: "REQUEST_INVALID", details: { path: "body.change.weight" } });
  });

  it("nobody there is INSTANCE_NOT_RUNNING, with and without a leftover", async () => {
    const path = freshPath();
    const client = connectClient(path, "main");
    undo.push(() => client.close());
    expect(await thrown(client.status())).toMatchObject({ code: "INSTANCE_NOT_RUNNING", details: { instance: "main", socket: path } });
    writeFileSync(path, "");
    expect((await thrown(client.status())).code).toBe("INSTANCE_NOT_RUNNING");
  });

  it("stop and detach are answered first and asked for then", async () => {
    const { client, stops } = await setup();
    await client.stop("ann");
    await client.detach("bob");
    await expect.poll(() => stops).toEqual([{ detach: false, actor: "ann" }, { detach: true, actor: "bob" }]);
  });
});

describe("events", () => {
  it("follow from an id on, in order, while other calls go on, until the signal", async () => {
    const { client, world } = await setup();
    const stop = new AbortController();
    const heard: string[] = [];
    const since = world.supervisor.events.lastId;
    world.supervisor.note("supervisor", "test", "before");
    const following = (async () => {
      for await (const { event } of client.events({ since, signal: stop.signal })) heard.push(event.message);
    })();
    await expect.poll(() => heard).toEqual(["before"]);
    await client.status();
    for (let n = 0; n < 50; n++) world.supervisor.note("supervisor", "test", `line\n${n}`);
    await expect.poll(() => heard.length).toBe(51);
    expect(heard.slice(1)).toEqual(Array.from({ length: 50 }, (_, n) => `line\n${n}`));
    stop.abort();
    await following;
  });

  it("end with the server, and an id from an earlier life starts over", async () => {
    const { client, world, app } = await setup();
    const heard: number[] = [];
    const following = (async () => {
      for await (const { event } of client.events({ since: 1_000_000, signal: null })) heard.push(event.id);
    })();
    await expect.poll(() => heard.length).toBe(world.supervisor.events.lastId);
    await app.close();
    await following;
  });

  it("Last-Event-ID goes before since, as browsers reconnect", async () => {
    const { world, path } = await setup();
    for (const text of ["one", "two", "three"]) world.supervisor.note("supervisor", "test", text);
    const { Pool } = await import("undici");
    const http = new Pool("http://x", { socketPath: path });
    undo.push(() => http.destroy());
    const last = world.supervisor.events.lastId;
    const answer = await http.request({
      method: "GET", path: "/v1/events?since=0",
      headers: { accept: "text/event-stream", "last-event-id": String(last - 1) },
    });
    expect(answer.headers["content-type"]).toBe("text/event-stream");
    for await (const event of decodeServerSentEvents(answer.body)) {
      expect([event.id, event.event]).toEqual([`${world.supervisor.events.life}.${last}`, "supervisor"]);
      break;
    }
  });

  it("frames survive any cut, with CR, CRLF and many lines", async () => {
    const text = encodeServerSentEvent({ id: "1", event: "a", data: "one\ntwo äöü" })
      + ": a comment\r\n\r\ndata:three\r\rid: 9\ndata: four\n\ndata: unfinished";
    const bytes = new TextEncoder().encode(text);
    const expected = [
      { id: "1", event: "a", data: "one\ntwo äöü" }, { id: "1", event: "", data: "three" },
      { id: "9", event: "", data: "four" },
    ];
    for (let size = 1; size <= bytes.length; size++) {
      const heard = [];
      const chunks = (async function* () {
        for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
      })();
      for await (const event of decodeServerSentEvents(chunks)) heard.push(event);
      expect(heard).toEqual(expected);
    }
  });
});

describe("a stranger's request", () => {
  it.each([
    ["GET", "/v1/nothing", undefined, 404, "REQUEST_INVALID"],
    ["PUT", "/v1/status", "{}", 404, "REQUEST_INVALID"],
    ["POST", "/v1/apply", "{", 400, "REQUEST_INVALID"],
    ["POST", "/v1/apply", undefined, 400, "REQUEST_INVALID"],
    ["POST", "/v1/apply", '{"name":"f","text":"{}","more":1}', 400, "REQUEST_INVALID"],
    ["POST", "/v1/ring", '{"service":"web","down":"a"}', 400, "REQUEST_INVALID"],
    ["POST", "/v1/rollback", '{"revision":0}', 400, "REQUEST_INVALID"],
    ["GET", "/v1/events?since=-1", undefined, 400, "REQUEST_INVALID"],
    ["GET", "/v1/events?since=x", undefined, 400, "REQUEST_INVALID"],
    ["DELETE", "/v1/overrides?kind=all", undefined, 400, "REQUEST_INVALID"],
    ["DELETE", "/v1/overrides?target=zz", undefined, 404, "UNKNOWN_BACKEND"],
  ] as const)("%s %s %s", async (method, url, payload, status, code) => {
    const { app } = await setup();
    const headers = payload === undefined ? {} : { "content-type": "application/json" };
    const answer = await app.inject({ method, url, headers, ...(payload === undefined ? {} : { payload }) });
    expect([answer.statusCode, answer.json<{ code: string }>().code]).toEqual([status, code]);
  });

  it("takes a config of 4 MiB and refuses 17 MiB", async () => {
    const { app } = await setup();
    const post = (megabytes: number) => app.inject({
      method: "POST", url: "/v1/check", headers: { "content-type": "application/json" },
      payload: JSON.stringify({ name: "f", text: "x".repeat(megabytes * 1024 * 1024) }),
    });
    expect((await post(4)).statusCode).toBe(200);
    expect((await post(17)).statusCode).toBe(413);
  });

  it("meeting a bug is told so", async () => {
    const { app, world } = await setup();
    world.plane.plan = () => { throw new TypeError("oh no"); };
    const answer = await app.inject({ method: "POST", url: "/v1/plan", payload: request(WEB) });
    expect([answer.statusCode, answer.json()]).toEqual([500, { code: "BUG", message: "this is a bug: oh no", details: null }]);
  });
});

describe("the socket", () => {
  it("is for owner and group only, from the start, and gone after close", async () => {
    const { path, app } = await setup();
    expect(statSync(path).mode & 0o777).toBe(0o660);
    await app.close();
    expect(() => statSync(path)).toThrow("ENOENT");
  });

  it("a leftover is removed, a living one is not, and nothing else is", async () => {
    const world = new World();
    const supervisor = await world.start(WEB);
    const listen = async (path: string): Promise<void> => {
      const app = createApi({ env: real, supervisor, onStop: () => undefined, ...UPGRADES });
      undo.push(() => app.close());
      await app.ready();
      await listenOnSocket(app.server, { path, instance: "main", group: null }, real);
    };
    const path = freshPath();
    await leaveSocketBehind(path);
    await listen(path);
    expect((await thrown(listen(path))).code).toBe("INSTANCE_RUNNING");
    const file = freshPath();
    writeFileSync(file, "something else");
    expect((await thrown(listen(file))).code).toBe("SYSTEM");
    expect(readFileSync(file, "utf8")).toBe("something else");
    const folder = join(directory, "folder");
    real.files.makeDirectory(folder, 0o755);
    expect((await thrown(listen(folder))).code).toBe("SYSTEM");
  });

  it("a group that does not exist is a failure that names it", async () => {
    const world = new World();
    const app = createApi({ env: real, supervisor: await world.start(WEB), onStop: () => undefined, ...UPGRADES });
    undo.push(() => app.close());
    await app.ready();
    const failure = await thrown(listenOnSocket(
      app.server, { path: freshPath(), instance: "main", group: "no-such-group" }, real,
    ));
    expect(failure.code).toBe("PERMISSION_DENIED");
    expect(failure.message).toContain("no-such-group");
  });
});

/** A socket file whose listener is gone, as kill -9 leaves it. */
async function leaveSocketBehind(path: string): Promise<void> {
  const { renameSync } = await import("node:fs");
  const server = createServer();
  await new Promise<void>((resolve) => { server.listen(`${path}.tmp`, resolve); });
  renameSync(`${path}.tmp`, path);
  await new Promise((resolve) => { server.close(resolve); });
}
