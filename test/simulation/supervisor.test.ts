// A supervisor lives through random days: configs, health, overrides, applies that fail or hang, kill -9.
// Whatever happens, ids keep their owners, foreign slots stay, no event is lost, and once the world is
// quiet the plane holds what a fresh compile of everything that is wanted gives.

import { describe, expect, it } from "vitest";
import { compile } from "../../src/model/compile.ts";
import type { BackendHealth, ForwardingTable, Intent, OverrideChange, Service } from "../../src/model/table.ts";
import { ADMISSION_MAX } from "../../src/model/table.ts";
import type { ConfigSketch } from "../support/configs.ts";
import { configOf, sketchText } from "../support/configs.ts";
import { randomised } from "../support/counts.ts";
import { seededRandom, settle } from "../support/fake_env.ts";
import { World } from "../support/world.ts";

const STEPS = 40;
/** For test:long; a short run takes seconds. */
const LONGEST_MS = 1_200_000;
/** Longer than fall × interval, the longest retry and every probe that was due. */
const QUIET_MS = 90_000;
/** Of those in one list each has the servers of the others. */
const HOUSES = [["web", "twin"], ["db"]];
const POOLS = HOUSES.flat();
const BACKENDS = ["a", "b", "c", "d", "e"];

class Day {
  readonly world: World;
  readonly next: () => number;
  readonly log: string[] = [];
  /** Null: only the supervisor knows (after a rollback). */
  wanted: ConfigSketch | null;
  readonly #promises: Promise<unknown>[] = [];
  readonly #seen: ForwardingTable[] = [];
  #planesRead = 0;
  readonly #readOf = new Map<number, number>();
  #heard: number[] = [];
  /** Last word of a health event, by backend, in this life. */
  #said = new Map<string, string>();

  constructor(seed: number) {
    this.world = new World(seed);
    this.next = seededRandom(seed);
    this.wanted = this.sketch();
  }

  pick<T>(list: readonly T[]): T {
    return list[Math.floor(this.next() * list.length)]!;
  }

  chance(share: number): boolean {
    return this.next() < share;
  }

  sketch(): ConfigSketch {
    const pools = Object.fromEntries(POOLS.map((pool) => [pool, BACKENDS
      .filter(() => this.chance(0.7))
      .map((name) => ({
        name, weight: this.pick([0, 1, 50, 100, 100, 100, 300]),
        // Seldom a backend moves, which makes it another destination.
        address: `10.${HOUSES.findIndex((pools) => pools.includes(pool))}.${this.chance(0.1) ? 1 : 0}.${BACKENDS.indexOf(name) + 1}`,
      }))]));
    const services = [
      { name: "web", port: 80, pool: "web", failOpen: this.chance(0.3) },
      { name: "tls", port: 443, pool: "web" },
      // At the port of the first, so that what is the same server is probed once.
      { name: "twin", address: "203.0.113.11", port: 80, pool: "twin" },
      { name: "db", port: 5432, pool: "db", hash: this.pick(["5-tuple", "source-ip"] as const) },
    ].filter(() => this.chance(0.8));
    return {
      probes: true, pools, services, seed: this.pick(["0000000000000001", "0000000000000001", "0000000000000002"]),
      limits: { backends: 24, services: 4 },
    };
  }

  async begin(): Promise<void> {
    const supervisor = await this.world.start();
    this.#heard = [];
    this.#said = new Map();
    const { events } = supervisor;
    const [heard, said] = [this.#heard, this.#said];
    void (async () => {
      for await (const event of events.subscribe({ since: 0, signal: null })) {
        heard.push(event.id);
        if (event.kind === "health") said.set(event.subject, String(event.fields["to"]));
      }
    })();
  }

  /** One thing that happens. */
  async step(): Promise<void> {
    const { world } = this;
    const actions: Readonly<Record<string, () => Promise<void> | void>> = {
      apply: () => { this.#propose(); },
      reload: () => { this.#reload(); },
      invalid: () => {
        const text = sketchText({ ...this.sketch(), invalid: "no" });
        this.#ask(world.supervisor.apply({ name: "bad", text, actor: "day" }));
      },
      rollback: () => {
        this.wanted = null;
        this.#ask(world.supervisor.rollback(null, "day"));
      },
      flap: () => { this.#flap(); },
      override: () => { this.#override(); },
      clear: () => { this.#ask(world.supervisor.clearOverrides({ target: null, kind: null }, "day")); },
      fail: () => { world.plane.failures = 1 + Math.floor(this.next() * 4); },
      hang: () => { world.plane.hang(); },
      release: () => { world.plane.release(); },
      kill: () => this.#kill(),
    };
    const often = ["apply", "reload", "flap", "flap", "flap", "override", "override", "fail", "hang", "release", "release"];
    const name = this.chance(0.2) ? this.pick(Object.keys(actions)) : this.pick(often);
    this.log.push(name);
    await actions[name]!();
    if (this.chance(0.5)) await settle();
    else await world.pass(Math.floor(this.next() * 8000));
    this.readTables();
  }

  /** Everything that was wanted has had its time. */
  async quieten(): Promise<void> {
    this.world.plane.failures = 0;
    this.world.plane.release();
    await this.world.pass(QUIET_MS);
    await Promise.all(this.#promises);
    await this.world.supervisor.quiet();
    await settle();
    this.readTables();
  }

  /** Tables that were applied since the last look, in order. Each is held against its predecessor. */
  readTables(): void {
    for (; this.#planesRead < this.world.planes.length; this.#planesRead++) this.#readOf.set(this.#planesRead, 0);
    this.world.planes.forEach((plane, index) => {
      for (let at = this.#readOf.get(index) ?? 0; at < plane.applied.length; at++) {
        const table = plane.applied[at]!;
        const before = this.#seen.at(-1) ?? null;
        this.#seen.push(table);
        if (before !== null) compareTables(before, table);
        this.#checkOwners(table);
      }
      this.#readOf.set(index, plane.applied.length);
    });
  }

  readonly #owners = new Map<string, bigint>();

  /** An id and a generation mean one identity for ever. */
  #checkOwners(table: ForwardingTable): void {
    for (const { id, generation, identity } of table.destinations.values()) {
      const key = `${id}.${generation}`;
      const owner = this.#owners.get(key) ?? identity;
      expect(owner, `id ${key} belongs to two`).toBe(identity);
      this.#owners.set(key, identity);
    }
  }

  checkQuiet(): void {
    const { world } = this;
    const { supervisor } = world;
    const status = supervisor.status();
    expect(status.reasons).toEqual([]);
    const table = supervisor.table()!;
    expect(world.pinned.table).toBe(table);
    if (this.wanted !== null) expect(supervisor.config()).toEqual(configOf(this.wanted));
    const { config, hashSeed } = { config: supervisor.config(), hashSeed: table.services[0]?.hashSeed ?? 0n };
    const intent: Intent = {
      config, hashSeed, overrides: world.state().overrides(), health: this.#trueHealth(), nowMs: world.env.clock.wallMs(),
    };
    for (const { target, end, deadlineAtMs } of supervisor.drains()) {
      const isOver = deadlineAtMs !== null && deadlineAtMs <= intent.nowMs;
      // The simulated plane holds no flow.
      expect([target, end]).toEqual([target, isOver && end === "deadline" ? "deadline" : "empty"]);
    }
    const expected = compile(intent, { ledger: table.ledger, generation: table.generation - 1 });
    expect(essence(table)).toEqual(essence(expected));
    // Events: none missing, none twice, and the last word on each backend is the truth.
    expect(this.#heard).toEqual(Array.from({ length: supervisor.events.lastId }, (_, index) => index + 1));
    for (const [name, to] of this.#said) {
      const row = status.backends.find((each) => each.name === name);
      // Nobody probes a pool that no service uses.
      if (row === undefined || row.destinations.length === 0 || row.state === "maintenance") continue;
      expect([name, to]).toEqual([name, world.dead.has(name) ? "down" : "up"]);
    }
  }

  #trueHealth(): Map<string, BackendHealth> {
    const names = this.world.supervisor.config().pools.flatMap((pool) =>
      pool.backends.map((backend) => `${pool.name}/${backend.name}`));
    return new Map(names.map((name) => {
      const alive = !this.world.dead.has(name);
      return [name, { alive, known: true, admission: alive ? ADMISSION_MAX : 0, reason: "", sinceMs: 0 }];
    }));
  }

  #ask(promise: Promise<unknown>): void {
    // Refusals and failed applies are part of the day; what they lead to is checked at its end.
    this.#promises.push(promise.catch(() => undefined));
  }

  #propose(): void {
    const sketch = this.sketch();
    this.wanted = sketch;
    this.#ask(this.world.supervisor.apply({ name: "given", text: sketchText(sketch), actor: "day" }));
  }

  #reload(): void {
    this.wanted = this.sketch();
    this.world.write(this.wanted);
    this.#ask(this.world.supervisor.reload("day"));
  }

  /** A server, in whatever pools. */
  #flap(): void {
    const backend = this.pick(BACKENDS);
    for (const pool of this.pick(HOUSES)) {
      const name = `${pool}/${backend}`;
      if (!this.world.dead.delete(name)) this.world.dead.add(name);
    }
  }

  #override(): void {
    const change = this.pick<OverrideChange>([
      { kind: "drain" }, { kind: "drain", timeoutMs: 1 + Math.floor(this.next() * 60_000) }, { kind: "maintenance" },
      { kind: "weight", weight: 0 }, { kind: "weight", weight: 10 }, { kind: "weight", weight: 200 },
    ]);
    const target = `${this.pick(POOLS)}/${this.pick(BACKENDS)}`;
    const expiresInMs = this.chance(0.5) ? 1 + Math.floor(this.next() * 60_000) : null;
    this.#ask(this.world.supervisor.override({ target, change, actor: "day", reason: null, expiresInMs }));
  }

  async #kill(): Promise<void> {
    this.readTables();
    // What the dead process had been asked is nobody's promise any more.
    this.#promises.length = 0;
    this.world.kill();
    if (this.chance(0.5)) await this.world.pass(Math.floor(this.next() * 30_000));
    const bytes = this.world.env.files.read("/etc/pointsman/pointsman.yaml")!;
    this.wanted = JSON.parse(Buffer.from(bytes).toString()) as ConfigSketch;
    await this.begin();
  }
}

/** Destinations that stay keep id and generation; slots move only from or to a backend whose state changed. */
function compareTables(before: ForwardingTable, after: ForwardingTable): void {
  const old = new Map([...before.destinations.values()].map((each) => [each.identity, each]));
  for (const { identity, id, generation, name } of after.destinations.values()) {
    const was = old.get(identity);
    if (was !== undefined) expect([name, id, generation]).toEqual([name, was.id, was.generation]);
  }
  expect(new Set(after.services.map((each) => each.index)).size).toBe(after.services.length);
  for (const service of after.services) {
    const was = before.services.find((each) => each.index === service.index);
    if (was !== undefined && same(was.ring.configured, service.ring.configured)) {
      expect(foreignMoves(was, before, service, after)).toEqual([]);
    }
  }
}

function same(a: Uint16Array, b: Uint16Array): boolean {
  return a.length === b.length && a.every((value, index) => value === b[index]);
}

function foreignMoves(was: Service, before: ForwardingTable, is: Service, after: ForwardingTable): number[] {
  const stateOf = (table: ForwardingTable, service: Service, id: number): string => {
    const { alive, admission } = table.destinations.get(id) ?? { alive: false, admission: 0 };
    // Where a service failed open, a drain shows in nothing but the slots.
    const opened = service.failedOpen ? service.ring.slots.includes(id) : null;
    return `${alive} ${admission} ${opened}`;
  };
  const changed = (id: number): boolean => id === 0 || stateOf(before, was, id) !== stateOf(after, is, id);
  return [...is.ring.slots.keys()].filter((slot) => {
    const [from, to] = [was.ring.slots[slot]!, is.ring.slots[slot]!];
    return from !== to && !changed(from) && !changed(to);
  });
}

/** What a packet can notice. */
function essence(table: ForwardingTable): unknown {
  return {
    services: table.services.map(({ index, name, ring, hashSeed, failedOpen, destinations }) =>
      ({ index, name, ring: ring.key, hashSeed, failedOpen, destinations })),
    destinations: [...table.destinations.values()].map(({ id, generation, identity, alive, admission, weight, resets }) =>
      ({ id, generation, identity, alive, admission, weight, resets })),
  };
}

describe("simulation", () => {
  it("random days end with the table that everything wanted compiles to", async () => {
    await randomised("simulation", async ({ seed, count }) => {
      for (let run = 0; run < count; run++) {
        const day = new Day(seed + run);
        try {
          day.world.write(day.wanted!);
          await day.begin();
          for (let step = 0; step < STEPS; step++) await day.step();
          await day.quieten();
          day.checkQuiet();
        } catch (error) {
          if (error instanceof Error) error.message += `\nSEED=${seed + run}: ${day.log.join(" ")}`;
          throw error;
        }
      }
    });
  }, LONGEST_MS);
});
