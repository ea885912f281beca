// Virtual addresses that the proxy plane puts on a host: a namespace with a loopback and an
// interface, real traffic to each address, a reload, a crash and the end.

import { once } from "node:events";
import type { ChildProcess } from "node:child_process";
import { afterAll, beforeAll, expect, it } from "vitest";
import type { Instance } from "../../scripts/lab_services.ts";
import { instanceName, startInstance, waitFor } from "../../scripts/lab_services.ts";
import { createNamespace, deleteOwn, runIn, runInSync, spawnIn } from "../../scripts/namespaces.ts";
import { describeKernel } from "../support/kernel.ts";

const PORT = 9000;
const SERVE = `require("node:http").createServer((_, answer) => answer.end("here"))
  .listen(${PORT}, "127.0.0.1", () => console.log("ready"))`;

/** Says when it is connected. */
const CONNECT = `require("node:net").connect(${PORT}, process.argv[1], () => console.log("connected"))`;

function service(name: string, address: string, assign: string): string {
  return `{ name: ${name}, address: "${address}", port: ${PORT}, pool: web,
    vip: { assign: ${assign} } }`;
}
const one = service("one", "198.18.0.10", "loopback");
/** An operator has put it there. */
const two = service("two", "198.18.0.11", "loopback");
const three = service("three", "198.18.0.12", "interface");
const six = service("six", "2001:db8::10", "loopback");
const ALL = [
  "198.18.0.10/32 lo", "198.18.0.11/32 lo", "198.18.0.12/32 eth0", "2001:db8::10/128 lo",
];
const NEEDS = ["capabilities", "namespaces", "tool:curl"] as const;

describeKernel("the proxy plane's virtual addresses", NEEDS, () => {
  let namespace: string;
  let backend: ChildProcess;
  let instance: Instance | null = null;
  const name = instanceName("assign");

  function config(...services: readonly string[]): string {
    return `version: 1
instance: ${name}
dataplane: { mode: proxy, interfaces: [eth0] }
pools:
  web: { backends: [{ name: a, address: 127.0.0.1 }], health: { type: none } }
services: [${services.join(", ")}]
`;
  }

  async function start(...services: readonly string[]): Promise<Instance> {
    instance = await startInstance({ balancer: { namespace } }, name, config(...services));
    return instance;
  }

  function addresses(): string[] {
    const { stdout } = runInSync(namespace, "ip", ["-o", "address", "show"]);
    return [...stdout.matchAll(/^\d+: (\S+) +inet6? (198\S+|2001\S+)/gm)]
      .map(([, device, prefix]) => `${prefix} ${device}`).sort();
  }

  async function has(...expected: readonly string[]): Promise<void> {
    await waitFor(expected.join(), 15_000, () =>
      Promise.resolve(addresses().join() === expected.join()))
      .catch(() => { expect(addresses()).toEqual(expected); });
  }

  async function crash(): Promise<void> {
    await instance?.stop("SIGKILL");
  }

  beforeAll(async () => {
    namespace = createNamespace("assign");
    const ip = (...args: readonly string[]): unknown => runInSync(namespace, "ip", args);
    ip("link", "set", "lo", "up");
    ip("link", "add", "eth0", "type", "veth", "peer", "name", "eth1");
    ip("link", "set", "eth0", "up");
    ip("link", "set", "eth1", "up");
    ip("address", "add", "198.18.0.11/32", "dev", "lo");
    backend = spawnIn(namespace, process.execPath, ["-e", SERVE]);
    if (backend.stdout !== null) await once(backend.stdout, "data");
  });
  afterAll(async () => {
    await instance?.remove();
    backend.kill("SIGKILL");
    deleteOwn();
  });

  it("are there, serve, go with their service, and go at the end", async () => {
    const running = await start(one, two, three, six);
    await has(...ALL);
    for (const host of ["198.18.0.10", "198.18.0.11", "198.18.0.12", "[2001:db8::10]"]) {
      const url = `http://${host}:${PORT}/`;
      expect((await runIn(namespace, "curl", ["-sg", "-m", "10", url])).stdout).toBe("here");
    }
    runInSync(namespace, "ip", ["address", "delete", "198.18.0.10/32", "dev", "lo"]);
    await has(...ALL);
    running.configure(config(one));
    await running.verb("reload");
    await has("198.18.0.10/32 lo", "198.18.0.11/32 lo");
    await running.remove();
    await has("198.18.0.11/32 lo");
  }, 60_000);

  it("survive a crash, and are taken over by the next supervisor", async () => {
    await start(one, three);
    await crash();
    await has("198.18.0.10/32 lo", "198.18.0.11/32 lo", "198.18.0.12/32 eth0");
    await (await start(one)).stop();
    await has("198.18.0.11/32 lo");
  }, 60_000);

  it("stay over a hand-over and the end of the old process; one without a service until its last connection", async () => {
    const running = await start(one, three, six);
    const before = ["198.18.0.10/32 lo", "198.18.0.11/32 lo", "198.18.0.12/32 eth0", "2001:db8::10/128 lo"];
    await has(...before);
    const client = spawnIn(namespace, process.execPath, ["-e", CONNECT, "198.18.0.10"]);
    await once(client.stdout!, "data");
    running.configure(config(six, three));
    await running.verb("upgrade");
    runInSync(namespace, "ip", ["address", "delete", "198.18.0.12/32", "dev", "eth0"]);
    await has(...before); // whoever looks after the addresses has looked
    client.kill("SIGKILL");
    await has("198.18.0.11/32 lo", "198.18.0.12/32 eth0", "2001:db8::10/128 lo");
    await running.verb("upgrade");
    await crash(); // of the first process, whose children go on
    runInSync(namespace, "ip", ["address", "delete", "198.18.0.12/32", "dev", "eth0"]);
    await has("198.18.0.11/32 lo", "198.18.0.12/32 eth0", "2001:db8::10/128 lo");
    await running.verb("detach");
    await has("198.18.0.11/32 lo");
  }, 120_000);

  it("go with detach when nobody supervises", async () => {
    const running = await start(one, three);
    await crash();
    expect(await running.verb("detach")).toContain("nobody was supervising it");
    await has("198.18.0.11/32 lo");
    expect(await running.verb("detach")).toContain("nothing to detach");
  }, 60_000);
});
