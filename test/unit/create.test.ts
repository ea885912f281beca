// createPointsman in the real world, as far as it needs no privileges: the proxy plane on loopback, the
// lock, the control socket, the state directory, and what is left after the end.

import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { connect, createServer } from "node:net";
import type { AddressInfo, Server } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import { connectClient } from "../../src/api/client.ts";
import type { Env } from "../../src/env.ts";
import { createEnv } from "../../src/env_real.ts";
import { createPointsman, Failure } from "../../src/index.ts";
import type { Pointsman } from "../../src/index.ts";

const directory = mkdtempSync(join(tmpdir(), "pm-create-"));
const backends: Server[] = [];
const living: Pointsman[] = [];
let env: Env;
let ports: number[];

async function listen(reply: string): Promise<number> {
  const server = createServer((socket) => {
    socket.on("error", () => { /* whoever asked is gone: that is the test's end */ });
    socket.end(reply);
  });
  backends.push(server);
  // Not the services' address: a backend that is a virtual address of the same config is refused.
  await new Promise<void>((resolve) => { server.listen(0, "127.0.0.2", resolve); });
  return (server.address() as AddressInfo).port;
}

beforeAll(async () => {
  const variables = {
    ...process.env, POINTSMAN_RUN_DIRECTORY: join(directory, "run"), POINTSMAN_STATE_DIRECTORY: join(directory, "state"),
  };
  env = { ...createEnv({ logTo: { write: () => undefined } }), variables };
  ports = await Promise.all(["one", "two"].map(listen));
});

afterEach(async () => { await Promise.all(living.splice(0).map((each) => each.close())); });

afterAll(() => {
  for (const server of backends) server.close();
  rmSync(directory, { recursive: true });
});

async function freePort(): Promise<number> {
  const server = createServer();
  await new Promise<void>((resolve) => { server.listen(0, "127.0.0.1", resolve); });
  const { port } = server.address() as AddressInfo;
  await new Promise((resolve) => { server.close(resolve); });
  return port;
}

function configWith(port: number, names: readonly number[] = [0, 1]): object {
  return {
    version: 1,
    dataplane: { mode: "proxy" },
    observe: { listen: "none" },
    services: [{
      name: "web", address: "127.0.0.1", port, protocol: "tcp", forwarding: "nat",
      health: { type: "none" },
      backends: names.map((index) => ({ name: `b${index}`, address: "127.0.0.2", port: ports[index] })),
    }],
  };
}

async function start(config: string | object): Promise<Pointsman> {
  const pointsman = await createPointsman({ config, env });
  living.push(pointsman);
  return pointsman;
}

function ask(port: number): Promise<string> {
  return new Promise((resolve, reject) => {
    let text = "";
    const socket = connect(port, "127.0.0.1");
    socket.on("data", (chunk) => { text += chunk.toString(); });
    socket.on("end", () => { resolve(text); });
    socket.on("error", reject);
  });
}

describe("createPointsman", () => {
  it("serves a config given as a value, drains a backend, applies another, ends without a trace", async () => {
    const port = await freePort();
    const pointsman = await start(configWith(port));
    expect(pointsman.status()).toMatchObject({ ready: true, mode: "proxy", config: { file: null, revision: 1 } });
    expect(["one", "two"]).toContain(await ask(port));
    await pointsman.override({ target: "b0", change: { kind: "drain" }, actor: "test" });
    const answers = await Promise.all(Array.from({ length: 20 }, () => ask(port)));
    expect(new Set(answers)).toEqual(new Set(["two"]));
    const plan = await pointsman.plan(configWith(port, [0]));
    expect(plan).toMatchObject({ changed: true });
    await pointsman.apply(configWith(port, [0]));
    expect(pointsman.status().backends.map((each) => each.name)).toEqual(["web/b0"]);
    const kinds: string[] = [];
    for await (const event of pointsman.events) {
      kinds.push(event.kind);
      if (event.message.startsWith("revision 2")) break;
    }
    expect(kinds).toContain("override");
    await pointsman.close();
    await expect(ask(port)).rejects.toThrow("ECONNREFUSED");
    expect(readdirSync(join(directory, "run"))).toEqual([]);
  });

  it("is reached through its socket; a stop through it ends everything", async () => {
    const port = await freePort();
    const file = join(directory, "pointsman.json");
    writeFileSync(file, JSON.stringify(configWith(port)));
    const pointsman = await start(file);
    const client = connectClient(pointsman.socket!, "main");
    expect(await client.status()).toMatchObject({ config: { file, fileDiffers: false }, overrides: [{ target: "web/b0" }] });
    writeFileSync(file, JSON.stringify(configWith(port, [1])));
    expect((await client.status()).config.fileDiffers).toBe(true);
    expect(await client.reload("test")).toMatchObject({ changed: true });
    writeFileSync(file, "version: 1\nservices: 7\n");
    await expect(client.reload("test")).rejects.toMatchObject({ code: "CONFIG_INVALID" });
    expect(await ask(port)).toBe("two");
    await client.stop("test");
    await expect.poll(() => ask(port).catch(() => "gone")).toBe("gone");
    await client.close();
  });

  it("refuses a second one of the same instance, which changes nothing", async () => {
    const port = await freePort();
    await start(configWith(port));
    const error: unknown = await start(configWith(port)).catch((reason: unknown) => reason);
    expect(error).toMatchObject({ code: "INSTANCE_RUNNING", details: { pid: process.pid } });
    expect(["one", "two"]).toContain(await ask(port));
  });

  it("leaves no lock behind when it cannot start", async () => {
    await expect(start(join(directory, "nothing.yaml"))).rejects.toMatchObject({ code: "FILE_UNREADABLE" });
    await expect(start("version: 1\nservices: 7\n")).rejects.toBeInstanceOf(Failure);
    const port = await freePort();
    const long = { ...configWith(port), control: { socket: `/tmp/${"x".repeat(120)}` } };
    await expect(start(long)).rejects.toThrow("107");
    await expect(ask(port)).rejects.toThrow("ECONNREFUSED");
    expect(readdirSync(join(directory, "run"))).toEqual([]);
  });

  it("serves the other services when one cannot bind, says so, and binds it later", async () => {
    const [port, taken] = [await freePort(), await freePort()];
    const blocker = createServer();
    await new Promise<void>((resolve) => { blocker.listen(taken, "127.0.0.1", resolve); });
    const config = configWith(port) as { services: object[] };
    const both = { ...config, services: [...config.services, { ...config.services[0], name: "other", port: taken }] };
    const pointsman = await start(both);
    expect(["one", "two"]).toContain(await ask(port));
    expect(pointsman.status().ready).toBe(false);
    expect(pointsman.status().reasons[0]).toContain("service other is not served");
    await new Promise((resolve) => { blocker.close(resolve); });
    await expect.poll(() => pointsman.status().ready, { timeout: 20_000 }).toBe(true);
    expect(["one", "two"]).toContain(await ask(taken));
  });

  it("gives a backend of its share what its agent wants, and the rest to others", async () => {
    let line = "75% # busy\n";
    const agent = createServer((socket) => { socket.on("error", () => { /* gone */ }); socket.end(line); });
    backends.push(agent);
    await new Promise<void>((resolve) => { agent.listen(0, "127.0.0.2", resolve); });
    const config = configWith(await freePort()) as { services: object[] };
    // Names that no override of the tests before is for. Nobody listens at the other one, which therefore says nothing.
    const pool = [{ name: "c0", address: "127.0.0.2", port: ports[0] }, { name: "c1", address: "127.0.0.3", port: ports[1] }];
    const health = { type: "none", agent: { port: (agent.address() as AddressInfo).port, interval: "50ms" } };
    const pointsman = await start({ ...config, services: [{ ...config.services[0], health, backends: pool }] });
    const [first, second] = ["c0", "c1"].map((name) => () => pointsman.status().backends.find(({ backend }) => backend === name));
    await expect.poll(() => first!()?.admission).toBe(49_152);
    expect(first!()).toMatchObject({ state: "active", reason: "agent: 75 % (busy)" });
    expect(second!()).toMatchObject({ admission: 65_536, reason: "no health check" });
    await expect.poll(() => first!()?.share).toBeLessThan(0.4);
    expect(first!()?.share).toBeGreaterThan(0.35);
    line = "maint\n";
    await expect.poll(() => first!()?.state).toBe("down");
    line = "ready 100%\n";
    await expect.poll(() => first!()?.share).toBeGreaterThan(0.49);
    expect(pointsman.supervisor.events.since(0).map(({ message }) => message)).toContain("is down: agent: maint, 75 %");
  });
});
