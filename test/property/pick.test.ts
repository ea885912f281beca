// Where flows go that are placed one by one, against an oracle written from the algorithms' definitions.

import fc from "fast-check";
import { describe, expect, it } from "vitest";
import type { Algorithm, Config } from "../../src/model/config.ts";
import { slotOf } from "../../src/model/flow_hash.ts";
import { drawBase, lendingDraw } from "../../src/model/lending.ts";
import { BOUNDED_DRAWS_MAX, pick, type Picked, type PickState } from "../../src/model/pick.ts";
import type { Destination, ForwardingTable, Service } from "../../src/model/table.ts";
import { ADMISSION_MAX } from "../../src/model/table.ts";
import { chiSquared } from "../support/chi_squared.ts";
import { assertProperty } from "../support/counts.ts";
import { config, service, TableMaker } from "../support/proxy_world.ts";
import { Draws } from "../support/random.ts";

const RING = 251;

function pool(algorithm: Algorithm, weights: readonly number[], loadFactorPercent = 125): Config {
  const backends = Object.fromEntries(weights.map((weight, index) =>
    [`b${index}`, { address: `10.0.0.${index + 1}`, port: 80, weight }]));
  return config([service({ ringSize: RING, algorithm, loadFactorPercent })], { web: backends });
}

class World {
  readonly table: ForwardingTable;
  readonly service: Service;
  readonly loads = new Map<number, number>();

  constructor(table: ForwardingTable) {
    this.table = table;
    this.service = table.services[0]!;
  }

  /** Those that may get flows. */
  get eligible(): readonly Destination[] {
    return this.service.destinations.map((id) => this.table.destinations.get(id)!)
      .filter(({ alive, admission, weight }) => alive && admission > 0 && weight > 0);
  }

  load(id: number): number {
    return this.loads.get(id) ?? 0;
  }

  get loadTotal(): number {
    return this.service.destinations.reduce((sum, id) => sum + this.load(id), 0);
  }

  pick(state: Partial<PickState>, slot = 0, tried: ReadonlySet<number> = new Set()): Picked {
    return pick(this.table, this.service, this.service.picking!, {
      draw: 0, turn: 0, load: (id) => this.load(id), loadTotal: () => this.loadTotal, ...state,
    }, slot, tried);
  }
}

/** Of its flows, with one more, for its share of the weight that new flows may have; as a fraction. */
function ratio(world: World, { id, weight, admission }: Destination): readonly [bigint, bigint] {
  const share = Math.max(1, Math.floor((weight * admission) / ADMISSION_MAX));
  return [BigInt(world.load(id) + 1), BigInt(share)];
}

function compareRatios([a, b]: readonly [bigint, bigint], [c, d]: readonly [bigint, bigint]): number {
  return a * d < c * b ? -1 : a * d > c * b ? 1 : 0;
}

const pools = fc.record({
  weights: fc.array(fc.integer({ min: 0, max: 9 }), { minLength: 1, maxLength: 9 }),
  down: fc.array(fc.nat(8), { maxLength: 4 }),
  ramping: fc.array(fc.record({ at: fc.nat(8), admission: fc.integer({ min: 0, max: ADMISSION_MAX }) }), { maxLength: 3 }),
  loads: fc.array(fc.nat(50), { minLength: 9, maxLength: 9 }),
  draw: fc.nat(0xffff_ffff), slot: fc.nat(RING - 1), turn: fc.nat(RING * 2),
});
type Pool = typeof pools extends fc.Arbitrary<infer T> ? T : never;

function worldOf(algorithm: Algorithm, { weights, down, ramping, loads }: Pool, loadFactorPercent?: number): World {
  const named = (index: number): string => `web/b${index}`;
  const there = (index: number): boolean => index < weights.length;
  const table = new TableMaker().make(
    pool(algorithm, weights, loadFactorPercent), down.filter(there).map(named),
    Object.fromEntries(ramping.filter(({ at }) => there(at)).map(({ at, admission }) => [named(at), admission])),
  );
  const world = new World(table);
  for (const { id, backend } of table.destinations.values()) world.loads.set(id, loads[Number(backend.slice(1))]!);
  return world;
}

const ALGORITHMS = ["round-robin", "random", "least-connections", "power-of-two", "bounded-load", "least-response-time"] as const;

describe("pick", () => {
  it.each(ALGORITHMS)("gives %s flows to whom may get them, and to nobody only where there is none", (algorithm) => {
    assertProperty("pick", fc.property(pools, (given) => {
      const world = worldOf(algorithm, given);
      const { destination } = world.pick(given, given.slot);
      if (world.eligible.length === 0) expect(destination).toBeNull();
      else expect(world.eligible).toContain(destination);
    }));
  });

  it.each(ALGORITHMS)("tries %s's backends one after the other, each once at most", (algorithm) => {
    assertProperty("pick", fc.property(pools, (given) => {
      const world = worldOf(algorithm, given);
      const tried: Destination[] = [];
      for (;;) {
        const { destination } = world.pick(given, given.slot, new Set(tried.map(({ id }) => id)));
        if (destination === null) break;
        expect(tried).not.toContain(destination);
        tried.push(destination);
      }
      // A few have no slot, or are in none of the slots that are drawn.
      if (algorithm === "least-connections") expect(new Set(tried)).toEqual(new Set(world.eligible));
      else expect(tried.length > 0).toBe(world.eligible.length > 0);
    }));
  });

  it("compares time for flows and weight, and asks who is unknown once", () => {
    const latencies = fc.array(fc.option(fc.integer({ min: 1, max: 1000 })), { minLength: 9, maxLength: 9 });
    assertProperty("pick", fc.property(pools, latencies, (given, times) => {
      const world = worldOf("least-response-time", given);
      const timeOf = (id: number): number | null => times[Number(world.table.destinations.get(id)!.backend.slice(1))]!;
      const { destination } = world.pick({ ...given, latency: timeOf }, given.slot);
      // Nobody is picked for being slower: of two backends both are drawn but once in thousands, unless weights are unequal.
      const [one, other] = world.eligible;
      if (destination === null || one === undefined || other === undefined || world.eligible.length > 2) return;
      const cost = ({ id, weight, admission }: Destination): number => {
        const time = timeOf(id);
        const flows = world.load(id) + 1;
        const share = Math.max(1, Math.floor((weight * admission) / ADMISSION_MAX));
        return (time === null ? (flows === 1 ? 0 : 2 ** 32 * flows) : time * flows) / share;
      };
      const drawn = [0, 1, 2, 3, 4].reduce((draws: number[], at) =>
        [...draws, at === 0 ? given.draw : drawBase(draws[at - 1]!) >>> 0], []);
      const seen = new Set(drawn.map((draw) => world.service.ring.slots[slotOf(draw, RING)]!));
      const best = [...seen].map((id) => world.table.destinations.get(id)!).sort((a, b) => cost(a) - cost(b))[0]!;
      expect(cost(destination)).toBe(cost(best));
    }));
  });

  it("finds one with the fewest flows for its weight", () => {
    assertProperty("pick", fc.property(pools, (given) => {
      const world = worldOf("least-connections", given);
      const { destination } = world.pick(given);
      if (destination === null) return;
      for (const other of world.eligible)
        expect(compareRatios(ratio(world, destination), ratio(world, other))).toBeLessThanOrEqual(0);
    }));
  });

  it("prefers neither of equals: least-connections starts anywhere", () => {
    const world = worldOf("least-connections", {
      weights: [1, 1, 1], down: [], ramping: [], loads: Array<number>(9).fill(4), draw: 0, slot: 0, turn: 0,
    });
    const found = [0, 0x6000_0000, 0xf000_0000].map((draw) => world.pick({ draw }).destination?.backend);
    expect(new Set(found)).toEqual(new Set(["b0", "b1", "b2"]));
  });

  it("gives power-of-two's flows to the worse of two only where it drew that one five times", () => {
    const given = { weights: [1, 1], down: [], ramping: [], loads: [100, 99, 0, 0, 0, 0, 0, 0, 0], draw: 0, slot: 0, turn: 0 };
    const world = worldOf("power-of-two", given);
    const draws = new Draws(1);
    const flows = 20_000;
    const worse = Array.from({ length: flows }, () => world.pick({ draw: draws.word() }).destination!.backend)
      .filter((backend) => backend === "b0").length;
    // (1/2)^5 of them, and 5 standard deviations.
    expect(Math.abs(worse - flows / 32)).toBeLessThan(5 * Math.sqrt((flows / 32) * (31 / 32)));
  });

  it("keeps bounded-load within its factor of a fair share, and goes where the slot is lent", () => {
    const cases = fc.record({ given: pools, factor: fc.integer({ min: 101, max: 400 }) });
    assertProperty("pick", fc.property(cases, ({ given, factor }) => {
      const world = worldOf("bounded-load", given, factor);
      const { destination } = world.pick(given, given.slot);
      if (destination === null) return;
      const weightTotal = world.eligible.reduce((sum, one) => sum + ratio(world, one)[1], 0n);
      const bound = (one: Destination): boolean =>
        BigInt(world.load(one.id)) * 100n * weightTotal < BigInt(factor) * BigInt(world.loadTotal + 1) * ratio(world, one)[1];
      const { slots } = world.service.ring;
      const drawn = Array.from({ length: BOUNDED_DRAWS_MAX + 1 }, (_, k) =>
        world.table.destinations.get(slots[k === 0 ? given.slot : lendingDraw(given.slot, k) % RING]!)!);
      const first = drawn.find(bound);
      if (first !== undefined) expect(destination).toBe(first);
      else for (const one of drawn) expect(compareRatios(ratio(world, destination), ratio(world, one))).toBeLessThanOrEqual(0);
    }));
  });

  it("holds bounded-load's bound in whatever slot all flows are, beside one that has most of the weight", () => {
    const weights = [1, 2, 5];
    const whole = 8;
    for (let slot = 0; slot < RING; slot++) {
      const world = worldOf("bounded-load", { weights, down: [], ramping: [], loads: Array<number>(9).fill(0), draw: 0, slot, turn: 0 });
      for (let flows = 1; flows <= 60; flows++) {
        const { id, weight } = world.pick({}, slot).destination!;
        world.loads.set(id, world.load(id) + 1);
        expect(world.load(id), `flow ${flows} of slot ${slot}`).toBeLessThanOrEqual(Math.ceil(1.25 * flows * weight / whole));
      }
    }
  });

  it("walks round-robin's turns one by one, and from the first where there are fewer now", () => {
    const given = { weights: [5, 1, 1], down: [], ramping: [], loads: Array<number>(9).fill(0), draw: 0, slot: 0, turn: 0 };
    const world = worldOf("round-robin", given);
    let turn = 0;
    const asked = Array.from({ length: 14 }, () => {
      const picked = world.pick({ turn });
      turn = picked.turn!;
      return picked.destination?.backend.replace("b0", "a").replace("b1", "b").replace("b2", "c");
    });
    expect(asked.join("")).toBe("aabacaaaabacaa");
    expect(world.pick({ turn: world.service.picking!.turns }).turn).toBe(1);
    expect(world.pick({ turn: world.service.picking!.turns - 1 }).turn).toBe(0);
  });
});

describe("shares of what is picked by chance", () => {
  const WEIGHTS = [5, 3, 1, 1];
  /** The 99.99th percentile of χ² with three degrees of freedom. */
  const LIMIT = 21.11;

  it.each(["random", "power-of-two"] as const)("are those of the weights with %s, when loads follow", (algorithm) => {
    const world = worldOf(algorithm, {
      weights: WEIGHTS, down: [], ramping: [], loads: Array<number>(9).fill(0), draw: 0, slot: 0, turn: 0,
    });
    const draws = new Draws(1);
    const counts = WEIGHTS.map(() => 0);
    for (let flow = 0; flow < 20_000; flow++) {
      const { destination } = world.pick({ draw: draws.word() });
      counts[Number(destination!.backend.slice(1))]! += 1;
      if (algorithm === "power-of-two") world.loads.set(destination!.id, world.load(destination!.id) + 1);
    }
    const slots = WEIGHTS.map((_, at) => {
      const { id } = [...world.table.destinations.values()].find(({ backend }) => backend === `b${at}`)!;
      return world.service.ring.slots.filter((each) => each === id).length / RING;
    });
    expect(chiSquared(counts, algorithm === "random" ? slots : WEIGHTS.map((weight) => weight / 10))).toBeLessThan(LIMIT);
  });
});
