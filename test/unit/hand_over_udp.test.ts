// UDP sessions over hand-overs: each keeps its own socket, so the backend goes on seeing one source port, and no
// datagram is lost or doubled. Real processes. Needs the build.

import { existsSync, readdirSync } from "node:fs";
import { afterEach, describe, expect, it } from "vitest";
import { replayCommand, seed } from "../support/counts.ts";
import { DatagramEcho, DatagramFlow } from "../support/datagram_flows.ts";
import { seededRandom } from "../support/fake_env.ts";
import { HandOverWorld, renewAfterEach } from "../support/hand_over_world.ts";

let world = new HandOverWorld();
const closers: (() => Promise<void>)[] = [];

renewAfterEach(() => world, (fresh) => { world = fresh; });
// The last to be told is the first to act.
afterEach(async () => {
  for (const close of closers.splice(0).reverse()) await close();
});

const LONG_MS = 120_000;

function udp(name: string, host: string, port: number, backends: readonly string[], proxy = ""): string {
  return `  - { name: ${name}, address: "${host}", port: ${port}, protocol: udp, forwarding: fullnat, health: { type: none },`
    + ` proxy: { ${proxy} }, backends: [${backends.join(", ")}] }`;
}

function yaml(...services: readonly string[]): string {
  return ["version: 1", "dataplane: { mode: proxy }", "observe: { listen: none }", "services:", ...services, ""].join("\n");
}

function backend(name: string, host: string, port: number): string {
  return `{ name: ${name}, address: "${host}", port: ${port} }`;
}

async function echo(host: string, delayMs?: (number: number) => number): Promise<DatagramEcho> {
  const opened = await DatagramEcho.open(host, delayMs);
  closers.push(() => opened.close());
  return opened;
}

function flows(prefix: string, count: number, host: string, port: number, pauseMs = 2): DatagramFlow[] {
  return Array.from({ length: count }, (_, index) => {
    const flow = new DatagramFlow(`${prefix}${index}`, host, port, pauseMs);
    closers.push(() => flow.abort());
    return flow;
  });
}

/** Whatever went wrong with any of them. */
function troubles(all: readonly DatagramFlow[], echoes: readonly DatagramEcho[]): Record<string, unknown> {
  const ports = all.map(({ name }) => echoes.flatMap((each) => each.portsOf(name)));
  return {
    lost: all.flatMap(({ name, lost }) => lost.map((number) => `${name} ${number}`)),
    unasked: all.flatMap(({ unasked }) => unasked),
    repeated: echoes.flatMap((each) => each.repeated()),
    torn: all.filter((_, index) => ports[index]!.length !== 1).map(({ name }) => name),
  };
}

const NO_TROUBLES = { lost: [], unasked: [], repeated: [], torn: [] };

/** Between two steps of others: where in the middle of things it ends is chance. */
function passes(ms: number): Promise<void> {
  return new Promise((resolve) => { setTimeout(resolve, ms); });
}

/** Of a process; nothing where the system does not tell. */
function openFiles(pid: number): number | null {
  const directory = `/proc/${pid}/fd`;
  return existsSync(directory) ? readdirSync(directory).length : null;
}

async function upgrade(): Promise<number> {
  const { status, stdout, stderr } = await world.ask("upgrade", "-o", "json");
  expect([status, stderr], world.text).toEqual([0, ""]);
  return (JSON.parse(stdout) as { to: { pid: number } }).to.pid;
}

describe("UDP sessions over a hand-over", () => {
  it("keep their source ports and lose nothing, four times in a row, on either family, answers under way included", async () => {
    // Every eighth answer takes so long that a hand-over comes in between.
    const slowly = (number: number): number => (number % 8 === 0 ? 400 : 0);
    const echoes = [await echo("127.0.0.2", slowly), await echo("::1", slowly)] as const;
    const port = await world.freePorts("127.0.0.1", 2);
    const port6 = await world.freePorts("::1", 1);
    world.write(yaml(
      udp("game", "127.0.0.1", port, [backend("a", "127.0.0.2", echoes[0].port)]),
      udp("across", "127.0.0.1", port + 1, [backend("a", "::1", echoes[1].port)]),
      udp("game6", "::1", port6, [backend("a", "::1", echoes[1].port)]),
    ));
    await world.start();
    const all = [...flows("four", 16, "127.0.0.1", port), ...flows("across", 8, "127.0.0.1", port + 1), ...flows("six", 8, "::1", port6)];
    await Promise.all(all.map((flow) => flow.goesOn()));
    const pids = new Set<number>();
    for (let turn = 0; turn < 4; turn += 1) {
      pids.add(await upgrade());
      await Promise.all(all.map((flow) => flow.goesOn(10)));
      // Some that begin in this process, and move with the next one.
      all.push(...flows(`later${turn}-`, 4, "127.0.0.1", port));
      await Promise.all(all.map((flow) => flow.goesOn()));
    }
    await Promise.all(all.map((flow) => flow.stop()));
    expect(pids.size).toBe(4);
    expect(troubles(all, echoes)).toEqual(NO_TROUBLES);
    const moved = world.lines().filter((line) => line["msg"] === "UDP sessions go on here");
    expect(moved.map(({ taken, refused, leftBehind }) => [taken, refused, leftBehind]))
      .toEqual([[32, 0, 0], [36, 0, 0], [40, 0, 0], [44, 0, 0]]);
  }, LONG_MS);

  it("go elsewhere where their backend or their PROXY header has left the config, and stay where not", async () => {
    const echoes = [await echo("127.0.0.2"), await echo("127.0.0.3")] as const;
    const port = await world.freePorts("127.0.0.1", 2);
    const [a, b] = [backend("a", "127.0.0.2", echoes[0].port), backend("b", "127.0.0.3", echoes[1].port)];
    world.write(yaml(udp("game", "127.0.0.1", port, [a, b]), udp("plain", "127.0.0.1", port + 1, [a])));
    await world.start();
    const all = flows("", 24, "127.0.0.1", port);
    const [plain] = flows("plain", 1, "127.0.0.1", port + 1) as [DatagramFlow];
    await Promise.all([...all, plain].map((flow) => flow.goesOn()));
    const [atA, atB] = echoes.map((each) => all.filter(({ name }) => each.portsOf(name).length > 0)) as [DatagramFlow[], DatagramFlow[]];
    expect([atA.length > 0, atB.length > 0, atA.length + atB.length]).toEqual([true, true, 24]);
    world.write(yaml(udp("game", "127.0.0.1", port, [a]), udp("plain", "127.0.0.1", port + 1, [a], "proxyProtocol: v2")));
    await upgrade();
    await Promise.all(all.map((flow) => flow.goesOn(5)));
    await Promise.all(all.map((flow) => flow.stop()));
    // What was on its way to a session that ends is lost, as with a reload.
    expect(troubles(atA, echoes)).toEqual(NO_TROUBLES);
    expect(troubles(atB, echoes)).toMatchObject({ unasked: [], repeated: [] });
    expect(atB.filter(({ lost }) => lost.length > 1)).toEqual([]);
    expect(atA.flatMap(({ name }) => echoes[0].portsOf(name))).toHaveLength(atA.length);
    // The new process began one for each of these, and sent nothing to the backend that is no longer there.
    expect(atB.map(({ name }) => echoes.map((each) => each.portsOf(name).length))).toEqual(atB.map(() => [1, 1]));
    const { taken, refused } = await world.until((line) => line["msg"] === "UDP sessions go on here");
    expect([taken, refused]).toEqual([atA.length, atB.length + 1]);
  }, LONG_MS);

  it("lose nothing when the new process has them and then fails", async () => {
    const echoes = [await echo("127.0.0.2"), await echo("::1")] as const;
    const port = await world.freePorts("127.0.0.1", 1);
    const port6 = await world.freePorts("::1", 1);
    const text = yaml(
      udp("game", "127.0.0.1", port, [backend("a", "127.0.0.2", echoes[0].port)]),
      udp("game6", "::1", port6, [backend("a", "::1", echoes[1].port)]),
    );
    world.write(text);
    const first = await world.start();
    const all = [...flows("four", 16, "127.0.0.1", port), ...flows("six", 8, "::1", port6)];
    await Promise.all(all.map((flow) => flow.goesOn()));
    const files = openFiles(first);
    world.write(`${text}control: { group: no-such-group-here }\n`); // which it finds when it has all sockets
    expect((await world.ask("upgrade")).status).toBe(1);
    expect(openFiles(first)).toBe(files);
    all.push(...flows("later", 8, "127.0.0.1", port));
    await Promise.all(all.map((flow) => flow.goesOn(10)));
    world.write(text);
    await upgrade();
    await Promise.all(all.map((flow) => flow.goesOn(10)));
    await Promise.all(all.map((flow) => flow.stop()));
    expect(troubles(all, echoes)).toEqual(NO_TROUBLES);
    expect(await world.until((line) => line["msg"] === "UDP sessions go on here")).toMatchObject({ taken: 32, refused: 0, leftBehind: 0 });
  }, LONG_MS);

  it("go on in the old process when the new one is killed while it gets them, and can be handed over then", async () => {
    const echoes = [await echo("127.0.0.2"), await echo("::1")] as const;
    const port = await world.freePorts("127.0.0.1", 1);
    const port6 = await world.freePorts("::1", 1);
    world.write(yaml(
      udp("game", "127.0.0.1", port, [backend("a", "127.0.0.2", echoes[0].port)]),
      udp("game6", "::1", port6, [backend("a", "::1", echoes[1].port)]),
    ));
    const first = await world.start();
    const all = [...flows("quiet", 200, "127.0.0.1", port, 200), ...flows("four", 12, "127.0.0.1", port), ...flows("six", 8, "::1", port6)];
    await Promise.all(all.map((flow) => flow.goesOn()));
    const random = seededRandom(seed());
    const files = openFiles(first);
    const killed = new Set([first]);
    for (const msg of ["the data plane is open", "the proxy listens", "the proxy listens", "the proxy listens", "the proxy listens"]) {
      world.signal("SIGUSR2");
      const pid = Number((await world.until((line) => !killed.has(Number(line["pid"])) && line["msg"] === msg))["pid"]);
      await passes(msg === "the proxy listens" ? Math.floor(random() * 80) : 0);
      world.kill(pid);
      killed.add(pid);
      await world.until((line) => line["successor"] === pid && line["msg"] === "the new process did not take over; this one goes on");
      await Promise.all(all.map((flow) => flow.goesOn()));
      expect([world.lockOwner(), openFiles(first)]).toEqual([first, files]);
    }
    await upgrade();
    await Promise.all(all.map((flow) => flow.goesOn()));
    await Promise.all(all.map((flow) => flow.stop()));
    const { lost, ...others } = troubles(all, echoes);
    expect(others, replayCommand("hand_over_udp")).toEqual({ unasked: [], repeated: [], torn: [] });
    // What a process had read in the moment in which it was killed.
    expect((lost as string[]).length).toBeLessThan(20);
    expect(await world.until((line) => line["msg"] === "UDP sessions go on here")).toMatchObject({ taken: 220, refused: 0, leftBehind: 0 });
  }, LONG_MS);

  it("that the new process has by then go on there when the old one is killed in the middle", async () => {
    const echoes = [await echo("127.0.0.2")] as const;
    const port = await world.freePorts("127.0.0.1", 1);
    world.write(yaml(udp("game", "127.0.0.1", port, [backend("a", "127.0.0.2", echoes[0].port)])));
    const first = await world.start();
    const all = [...flows("quiet", 300, "127.0.0.1", port, 200), ...flows("four", 12, "127.0.0.1", port)];
    await Promise.all(all.map((flow) => flow.goesOn()));
    world.signal("SIGUSR2");
    const { pid } = await world.until((line) => line["pid"] !== first && line["msg"] === "the proxy listens");
    await passes(Math.floor(seededRandom(seed())() * 60));
    world.signal("SIGKILL");
    const { taken, refused, leftBehind } = await world.until((line) => line["pid"] === pid && line["msg"] === "UDP sessions go on here");
    await world.until((line) => line["pid"] === pid && line["msg"] === "running");
    await Promise.all(all.map((flow) => flow.goesOn()));
    await Promise.all(all.map((flow) => flow.stop()));
    const { torn, unasked, repeated } = troubles(all, echoes);
    expect([unasked, repeated, refused, leftBehind], replayCommand("hand_over_udp")).toEqual([[], [], 0, 0]);
    expect(all.length - (torn as string[]).length).toBe(taken);
    expect(world.lockOwner()).toBe(pid);
  }, LONG_MS);
});
