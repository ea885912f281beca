// Drains with real connections: the report falls to zero as clients close, a deadline ends what is left, and
// a supervisor that is killed in the middle leaves neither undone. With the proxy and with translation, which reset.

import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, it } from "vitest";
import type { DrainView } from "../../src/api/schemas.ts";
import { raiseLab, VIP4, VIP6 } from "../../scripts/lab_network.ts";
import type { Lab } from "../../scripts/lab_network.ts";
import { instanceName, labConfig, ROOT, serveBackend, startInstance, verdictPackets, waitFor } from "../../scripts/lab_services.ts";
import type { Instance } from "../../scripts/lab_services.ts";
import { runInSync, spawnIn } from "../../scripts/namespaces.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";

const CONNECTIONS = 24;
/** What is closed is soon forgotten, and does not count for the next test. */
const SHORT = "  nat: { timeouts: { fin: 1s, rst: 1s } }\n";
const MAIN = join(ROOT, "dist/src/main.js");

/** Connections that write all the time, or nothing at all; SIGUSR1 closes all of them in order. Prints how each one ended. */
const CLIENT = `
  const { connect } = require("node:net");
  const [host, count, silent] = process.argv.slice(1);
  let open = 0;
  const sockets = Array.from({ length: Number(count) }, () => {
    const socket = connect({ host, port: 7 }, () => { if (++open === Number(count)) console.log("open"); });
    let how = "closed";
    const beat = setInterval(() => { if (silent === undefined) socket.write("x"); }, 100);
    socket.on("error", (error) => { how = error.code; });
    socket.on("close", () => { clearInterval(beat); console.log(how); });
    socket.on("data", () => undefined);
    return () => { clearInterval(beat); socket.end(); };
  });
  process.on("SIGUSR1", () => { for (const finish of sockets) finish(); });`;

class Clients {
  readonly #child: ChildProcess;
  #said = "";

  constructor(lab: Lab, host: string, more: readonly "silent"[]) {
    this.#child = spawnIn(lab.client.namespace, process.execPath, ["-e", CLIENT, host, String(CONNECTIONS), ...more]);
    this.#child.stdout?.on("data", (chunk: Buffer) => { this.#said += chunk.toString(); });
  }

  async opened(): Promise<this> {
    await waitFor("connections", 30_000, () => Promise.resolve(this.#said.includes("open")));
    return this;
  }

  /** How connections have ended so far, each once. */
  get ends(): string[] { return this.#said.split("\n").filter((line) => line !== "" && line !== "open"); }

  finish(): void { this.#child.kill("SIGUSR1"); }

  async gone(): Promise<void> {
    if (this.#child.exitCode === null) await once(this.#child, "exit");
  }

  end(): void { this.#child.kill("SIGKILL"); }
}

/** A verb that goes on for a while. */
class Verb {
  readonly child: ChildProcess;
  out = "";

  constructor(lab: Lab, { name }: Instance, ...args: string[]) {
    this.child = spawnIn(lab.balancer.namespace, process.execPath, [MAIN, ...args, "--instance", name]);
    this.child.stdout?.on("data", (chunk: Buffer) => { this.out += chunk.toString(); });
  }

  get drains(): DrainView[] {
    return this.out.trim().split("\n").filter((line) => line !== "").map((line) => JSON.parse(line) as DrainView);
  }

  async ended(): Promise<number | null> {
    if (this.child.exitCode === null) await once(this.child, "exit");
    return this.child.exitCode;
  }
}

describe.each([
  { mode: "proxy", kind: "exact", forwarding: "l2", family: 4 }, { mode: "xdp", kind: "exact", forwarding: "fullnat", family: 4 },
  { mode: "xdp", kind: "exact", forwarding: "fullnat", family: 6 },
] as const)("drain --wait, $mode $forwarding IPv$family", ({ mode, kind, forwarding, family }) => describeKernel("in the lab", KERNEL, () => {
  let lab: Lab;
  let instance: Instance;
  const name = instanceName(`drain${mode}${family}`);
  const open: Clients[] = [];
  const text = (): string => labConfig(name, {
    forwarding, mode, backends: lab.backends, backendFamily: family, extra: mode === "xdp" ? SHORT : "", health: "{ type: none }",
  });
  const clients = async (...more: readonly "silent"[]): Promise<Clients> => {
    const made = new Clients(lab, family === 4 ? VIP4 : VIP6, more);
    open.push(made);
    return await made.opened();
  };
  /** Of web-1, once it has been counted. */
  const flows = async (): Promise<number> => {
    let found: number | null = null;
    await waitFor("flows to be counted", 20_000, async () => {
      const backends = await instance.api.backends();
      const sum = backends.reduce((total, each) => total + (each.flows.count ?? 0), 0);
      found = backends[0]?.flows.count ?? null;
      return sum === CONNECTIONS;
    });
    return found!;
  };

  beforeAll(async () => {
    lab = raiseLab({ backends: 2, label: `dr${mode}${family}`, mtu: 1500, localVip: mode === "proxy" });
    for (const host of lab.backends) await serveBackend(host, { iperf: false, decap: false });
    instance = await startInstance(lab, name, text());
  });
  afterEach(async () => {
    for (const each of open.splice(0)) each.end();
    await instance.verb("undrain", "web-1");
    await waitFor("all flows to end", 30_000, async () =>
      (await instance.api.backends()).every(({ flows: { count: left }, state }) => left === 0 && state === "active"));
  });
  afterAll(async () => {
    await instance?.remove();
    lab?.close();
  });

  it("tells both ends of connections that are silent, too", async () => {
    const established = (): number => runInSync(lab.backends[0]!.namespace, "ss", ["-Htn", "state", "established", "sport", "=", ":7"])
      .stdout.split("\n").filter((line) => line !== "").length;
    const held = await clients("silent");
    const before = await flows();
    expect([before > 0, established()]).toEqual([true, before]);
    const verb = new Verb(lab, instance, "drain", "web-1", "--timeout", "2s", "--wait", "-o", "json");
    expect(await verb.ended()).toBe(0);
    expect(verb.drains.at(-1)).toMatchObject({ end: "deadline", flows: { count: before, kind } });
    await waitFor("the clients to hear", 30_000, () => Promise.resolve(held.ends.length >= before));
    await waitFor("the backend to hear", 30_000, () => Promise.resolve(established() === 0));
    expect(held.ends).toEqual(Array<string>(before).fill("ECONNRESET"));
    held.finish();
    await held.gone();
  });

  // What is left has no part in what packets look like.
  if (family === 6) return;

  it("reports flows falling to zero as clients close, and ends", async () => {
    const held = await clients();
    const before = await flows();
    expect(before).toBeGreaterThan(0);
    const verb = new Verb(lab, instance, "drain", "web-1", "--wait", "-o", "json");
    await waitFor("a first report", 20_000, () => Promise.resolve(verb.drains.some((each) => each.flows.count === before)));
    expect(verb.drains.at(-1)).toMatchObject({ target: "web/web-1", flows: { kind }, end: null, deadlineAtMs: null });
    held.finish();
    await held.gone();
    expect([await verb.ended(), verb.drains.at(-1)]).toEqual([0, expect.objectContaining({ flows: { count: 0, kind }, end: "empty" })]);
    expect(held.ends).toEqual(Array<string>(CONNECTIONS).fill("closed"));
    expect((await instance.api.backends())[0]).toMatchObject({ state: "drained", alive: true });
  });

  it("ends what is left at the deadline, and nothing else", async () => {
    const held = await clients();
    const before = await flows();
    const verb = new Verb(lab, instance, "drain", "web-1", "--timeout", "4s", "--wait", "-o", "json");
    expect(await verb.ended()).toBe(0);
    const last = verb.drains.at(-1)!;
    expect(last).toMatchObject({ end: "deadline", flows: { count: before, kind } });
    expect([last.resets.includes("echo-tcp-4"), last.moves.includes("echo-udp-4")]).toEqual([true, true]);
    await waitFor("the resets", 20_000, () => Promise.resolve(held.ends.length >= before));
    expect(held.ends).toEqual(Array<string>(before).fill("ECONNRESET"));
    if (mode === "xdp") expect(await verdictPackets(lab, "TX_RESET")).toBeGreaterThanOrEqual(before);
    await waitFor("the count", 20_000, async () => (await instance.api.backends())[0]?.flows.count === 0);
    held.finish();
    await held.gone();
    expect(held.ends.filter((each) => each !== "ECONNRESET")).toEqual(Array<string>(CONNECTIONS - before).fill("closed"));
  });

  it("is carried out by the next supervisor, when the deadline has passed without one", async () => {
    const held = await clients();
    const before = await flows();
    const verb = new Verb(lab, instance, "drain", "web-1", "--timeout", "8s", "--wait", "-o", "json");
    await waitFor("a report", 20_000, () => Promise.resolve(verb.drains.length > 0));
    const { deadlineAtMs } = verb.drains[0]!;
    await instance.stop("SIGKILL");
    await waitFor("the deadline", 30_000, () => Promise.resolve(Date.now() > deadlineAtMs!));
    // The proxy's connections have died with it; packets are forwarded as before, and the drain is not over.
    expect(held.ends.length).toBe(mode === "proxy" ? CONNECTIONS : 0);
    instance = await startInstance(lab, name, text(), join(instance.configPath, ".."));
    expect(await verb.ended()).toBe(0);
    expect(verb.drains.at(-1)).toMatchObject({ end: "deadline", deadlineAtMs });
    if (mode === "xdp") {
      await waitFor("the resets", 20_000, () => Promise.resolve(held.ends.length >= before));
      expect(held.ends).toEqual(Array<string>(before).fill("ECONNRESET"));
    }
    expect((await instance.api.backends())[0]).toMatchObject({ state: "drained", alive: false, slots: 0 });
  });
}));
