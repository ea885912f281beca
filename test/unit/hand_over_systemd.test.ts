// What systemd is told of processes that follow one another, and which of them stay: with another program in
// its place, and real processes otherwise. Needs the build.

import { expect, it } from "vitest";
import { HandOverWorld, HeldConnection, renewAfterEach } from "../support/hand_over_world.ts";

let world = new HandOverWorld();

renewAfterEach(() => world, (fresh) => { world = fresh; });

const LONG_MS = 120_000;
const poll = { timeout: 20_000 };

/** The port of the one service. */
async function serve(): Promise<number> {
  const echo = await world.echo("127.0.0.2");
  const port = await world.freePorts("127.0.0.1", 1);
  world.write(`version: 1
dataplane: { mode: proxy }
observe: { listen: none }
services:
  - { name: web, address: 127.0.0.1, port: ${port}, protocol: tcp, forwarding: fullnat, health: { type: none },
      backends: [{ name: a, address: 127.0.0.2, port: ${echo} }] }
`);
  return port;
}

async function open(port: number): Promise<HeldConnection> {
  const held = new HeldConnection("127.0.0.1", port);
  await held.goesOn();
  return held;
}

async function upgrade(): Promise<number> {
  const { status, stdout, stderr } = await world.ask("upgrade", "--drain", "1h", "-o", "json");
  expect([status, stderr], world.text).toEqual([0, ""]);
  return (JSON.parse(stdout) as { to: { pid: number } }).to.pid;
}

it("systemd is told who is ready and who is the main process, and each process ends with the last connection up to it", async () => {
  const systemd = world.withSystemd();
  const port = await serve();
  const first = await world.start();
  await expect.poll(systemd.told, poll).toEqual([`${first} READY=1`]);
  const held = await open(port);
  const pids = [first];
  for (const before of [first, null]) {
    pids.push(await upgrade());
    const [old, now] = pids.slice(-2);
    await expect.poll(systemd.told, poll).toEqual(expect.arrayContaining([`${old} MAINPID=${now}`, `${now} READY=1`]));
    if (before === null) await world.until((line) => line["pid"] === old && line["msg"] === "no connection is left here");
  }
  // The second has none of its own, but the third learns of the first one's by it.
  expect(pids.map((pid) => world.lives(pid))).toEqual([true, true, true]);
  const { backends } = await world.status() as { backends: { flows: unknown }[] };
  expect(backends.map(({ flows }) => flows)).toEqual([{ count: 1, kind: "exact" }]);
  await held.goesOn();
  await held.stop();
  expect([held.error, await world.ended]).toEqual([null, 0]);
  await expect.poll(() => pids.map((pid) => world.lives(pid)), poll).toEqual([false, false, true]);
  const after = await open(port);
  await after.stop();
  expect([after.error, world.lockOwner(), systemd.told().length]).toEqual([null, pids[2], 5]);
}, LONG_MS);

it("the old process does not outlive a main process that crashes, of which systemd would not learn", async () => {
  const systemd = world.withSystemd();
  const port = await serve();
  await world.start();
  const held = await open(port);
  const main = await upgrade();
  await expect.poll(systemd.told, poll).toHaveLength(3);
  await held.fallSilent();
  world.kill(main);
  await held.closed;
  expect([held.error, await world.ended]).toEqual(["ECONNRESET", 0]);
}, LONG_MS);

it("the old process stays until the new one ends where systemd cannot be told", async () => {
  const systemd = world.withSystemd();
  const port = await serve();
  systemd.refuse();
  const first = await world.start();
  const held = await open(port);
  const second = await upgrade();
  await held.stop();
  await world.until((line) => line["pid"] === first && line["msg"] === "no connection is left here");
  const warnings = world.lines().filter(({ level }) => level === "warn").map(({ pid, reason }) => [pid, reason]);
  expect(warnings.sort()).toEqual([[first, "no bus"], [first, "no bus"], [second, "no bus"]].sort());
  expect([world.lives(first), systemd.told()]).toEqual([true, []]);
  world.signal("SIGTERM"); // is passed on
  expect([await world.ended, world.lives(second)]).toEqual([0, false]);
}, LONG_MS);
