// Supervisors that are killed before any of the things they do to the kernel, from the first look at a pinned
// plane to the last step of an apply. Whenever that is, every packet meets a backend of the table before or
// of the one to come, and the next supervisor makes of what is left what an undisturbed one makes.

import { spawnSync } from "node:child_process";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, expect, it } from "vitest";
import { deleteOwn } from "../../scripts/namespaces.ts";
import { count, seed, replayCommand } from "../support/counts.ts";
import { seededRandom } from "../support/fake_env.ts";
import { describeKernel, KERNEL, ROOT } from "../support/kernel.ts";
import { CHANGES, chosen, freshClients, type Change, type Client } from "./fixtures/crash_changes.ts";
import { CrashWorld, type Via } from "./fixtures/crash_world.ts";
import { Mortal } from "./fixtures/mortal.ts";
import { createWire, env, native } from "./fixtures/plane_fixture.ts";

const EACH = 8;
/** Those who have connections when it begins, and those who come at each stage. */
const [HELD, BEFORE, BETWEEN, AFTER] = [1000, 2000, 3000, 4000];

const worlds: CrashWorld[] = [];

function worldOf(change: Change): CrashWorld {
  const world = new CrashWorld(change);
  worlds.push(world);
  return world;
}

function outcomes(clients: readonly Client[], send: (client: Client) => string): string[] {
  return clients.map((client) => `${client.protocol} ${client.port} from ${client.from}: ${send(client)}`);
}

/** The plane as it serves before the change, with connections. */
async function serving(world: CrashWorld): Promise<string[]> {
  await world.open("from");
  await world.apply("from");
  return outcomes(freshClients(EACH, HELD), (client) => world.send(client, true));
}

interface Reference {
  /** Of those that have connections: before, and when all is done. */
  readonly held: readonly [readonly string[], readonly string[]];
  /** Of new ones: by the table before, and by the one to come. */
  readonly fresh: readonly [ReadonlySet<string>, ReadonlySet<string>];
  readonly image: object;
  readonly effects: readonly string[];
}

const COMERS = [BEFORE, BETWEEN, AFTER].flatMap((from) => freshClients(EACH, from));

const befores = new Map<Change, readonly string[]>();

async function outcomesBefore(change: Change): Promise<readonly string[]> {
  const world = worldOf(change);
  await serving(world);
  const before = outcomes(COMERS, (client) => world.send(client, true));
  await world.remove();
  return before;
}

/** What becomes of it where nobody dies. */
async function undisturbed(change: Change, via: Via): Promise<Reference> {
  const before = befores.get(change) ?? await outcomesBefore(change);
  befores.set(change, before);
  const world = worldOf(change);
  const held = await serving(world);
  await world.abandonAll();
  const mortal = new Mortal(native(), env, Infinity);
  await world.run(via, mortal);
  mortal.close();
  await world.open("to");
  await world.apply("to");
  const then = outcomes(freshClients(EACH, HELD), (client) => world.send(client, false));
  const after = outcomes(COMERS, (client) => world.send(client, true));
  const image = world.image();
  await world.remove();
  return { held: [held, then], fresh: [new Set(before), new Set(after)], image, effects: mortal.effects };
}

async function prepared(world: CrashWorld): Promise<void> {
  await world.open("from");
  await world.apply("from");
  await world.abandonAll();
}

async function effectsOf(change: Change, via: Via): Promise<number> {
  const world = worldOf(change);
  await prepared(world);
  const mortal = new Mortal(native(), env, Infinity);
  await world.run(via, mortal);
  mortal.close();
  await world.remove();
  return mortal.effects.length;
}

/** `last`: only by the table to come. */
function expectServed(world: CrashWorld, { held, fresh }: Reference, { from, last, when, program }: {
  readonly from: number; readonly last: boolean; readonly when: string; readonly program?: Parameters<CrashWorld["send"]>[2];
}): void {
  const established = outcomes(freshClients(EACH, HELD), (client) => world.send(client, false, program));
  for (const [at, outcome] of established.entries()) {
    const allowed = last ? [held[1][at]] : [held[0][at], held[1][at]];
    expect(allowed, `a connection that was there, ${when}`).toContain(outcome);
  }
  for (const outcome of outcomes(freshClients(EACH, from), (client) => world.send(client, true, program))) {
    expect(fresh[1].has(outcome) || (!last && fresh[0].has(outcome)), `${outcome}: a new one, ${when}`).toBe(true);
  }
}

/** Dies at this point of the change; another supervisor takes over. */
async function dieAndRecover(change: Change, via: Via, reference: Reference, dieAt: number): Promise<void> {
  const world = worldOf(change);
  expect(await serving(world)).toEqual(reference.held[0]);
  const before = world.plane;
  const mortal = new Mortal(native(), env, dieAt);
  await world.run(via, mortal).then(
    () => { throw new Error(`${change.name}: nobody died at ${dieAt}`); },
    (error: unknown) => { if (!mortal.isDead) throw error; });
  const when = `${change.name} by ${via}, killed before ${reference.effects[dieAt]} (${dieAt} of ${reference.effects.length})`;
  expectServed(world, reference, { from: BEFORE, last: false, when, program: mortal.live ?? before });
  await world.abandonAll();
  mortal.close();

  await world.open("to");
  expectServed(world, reference, { from: BETWEEN, last: false, when: `${when}, and adopted` });
  await world.apply("to");
  expectServed(world, reference, { from: AFTER, last: true, when: `${when}, and changed again` });
  expect(world.image(), when).toEqual(reference.image);
  expect(world.plane.plan(world.table(world.plane, "to")).map(({ action }) => action), when).toEqual([]);
  expect(world.counted(), `${when}: every packet has been counted`).toBe(world.forwarded);
  expect(world.served("web"), `${when}: and so by its service`).toBe(4 * EACH + 3 * EACH);
  await world.remove();
}

describeKernel("killed before any effect", KERNEL, () => {
  beforeAll(() => { createWire("crash"); });
  afterEach(async () => {
    for (const world of worlds.splice(0)) await world.remove();
  });
  afterAll(() => { deleteOwn(); });

  const random = seededRandom(seed());
  const ways = CHANGES.flatMap((change) => (["restart", "reload"] as const).map((via) => ({ name: change.name, via, change })));

  it.each(ways)("serves every packet, and the next one makes it whole: $name, by $via", async ({ change, via }) => {
    const reference = await undisturbed(change, via);
    const { effects, held } = reference;
    // It is a change, and those with connections are at more than one backend.
    expect(effects.length).toBeGreaterThan(0);
    expect(new Set(held[0].map((text) => text.split(": ")[1])).size).toBeGreaterThan(1);
    try {
      for (const at of chosen(effects.length, count("crash-points"), random)) {
        await dieAndRecover(change, via, reference, at);
      }
    } catch (error) {
      if (error instanceof Error) error.message += `\nrepeat with: ${replayCommand("crash_points")}`;
      throw error;
    }
  }, 1_200_000);

  it("leaves behind what a process leaves that is killed there", async () => {
    for (let run = 0; run < count("crash-kills"); run += 1) {
      const number = Math.floor(random() * CHANGES.length);
      const via = random() < 0.5 ? "restart" : "reload";
      const change = CHANGES[number]!;
      // One after the other: there is one interface.
      const dieAt = Math.floor(random() * (await effectsOf(change, via)));
      const model = worldOf(change);
      await prepared(model);
      const mortal = new Mortal(native(), env, dieAt);
      await expect(model.run(via, mortal)).rejects.toThrow();
      mortal.close();
      const expected = model.remains();
      await model.remove();

      const real = worldOf(change);
      await prepared(real);
      const child = spawnSync(process.execPath, [
        "--import", join(ROOT, "scripts/typescript_loader.mjs"), join(ROOT, "test/kernel/fixtures/crash_child.ts"),
        real.instance, String(number), via, String(dieAt),
      ], { encoding: "utf8" });
      expect([child.signal, child.stdout], child.stderr).toEqual(["SIGKILL", ""]);
      expect(real.remains(), `${change.name} by ${via}, killed before effect ${dieAt}`).toEqual(expected);
      await real.remove();
    }
  }, 1_200_000);
});
