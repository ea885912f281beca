// compile: which windows a change opens, whose the flows in them are, when they close, and which marks go.
// What follows for packets is shown by the property test of slot states; this shows what tables say.

import { describe, expect, it } from "vitest";
import { parseConfig } from "../../src/config/parse.ts";
import { compile } from "../../src/model/compile.ts";
import type { Previous } from "../../src/model/slot_changes.ts";
import { SETTLED, WINDOW_SLACK_MS, type SlotStates, type SlotSweep } from "../../src/model/slot_states.ts";
import { EMPTY_LEDGER, type ForwardingTable, type Intent, type Ledger, type Override, type Service } from "../../src/model/table.ts";
import { configOf, type ConfigSketch, type ServiceSketch } from "../support/configs.ts";

const WINDOW_MS = 300_000;
const KEY = "tcp 203.0.113.10:80";
const WEB: ServiceSketch = { name: "web", port: 80, tracking: "minimal", changeWindowMs: WINDOW_MS };

function sketchOf(service: Partial<ServiceSketch> = {}, backends: readonly string[] = ["a", "b", "c"]): ConfigSketch {
  return { pools: { web: backends.map((name) => ({ name, address: `10.0.0.${name.charCodeAt(0)}` })) }, services: [{ ...WEB, ...service }] };
}

function drained(...names: readonly string[]): Partial<Intent> {
  return { overrides: names.map((name): Override => ({
    target: `web/${name}`, change: { kind: "drain" }, actor: "ann", reason: null, atMs: 0, expiresAtMs: null,
  })) };
}

/** A control plane all of whose tables are published, unless it is said that one is not. */
class Control {
  nowMs = 1_000_000;
  sweeps: ReadonlyMap<string, SlotSweep> = new Map();
  shown: Ledger = EMPTY_LEDGER;
  #previous: Omit<Previous, "changes"> = { ledger: EMPTY_LEDGER, generation: 0 };

  make(sketch: ConfigSketch, changes: Partial<Intent> = {}): ForwardingTable {
    const intent = { config: configOf(sketch), hashSeed: 7n, overrides: [], health: new Map(), nowMs: 1, ...changes };
    const { nowMs, shown, sweeps } = this;
    const table = compile(intent, { ...this.#previous, changes: { nowMs, shown, sweeps } });
    this.#previous = table;
    return table;
  }

  publish(sketch: ConfigSketch, changes: Partial<Intent> = {}): Service {
    const table = this.make(sketch, changes);
    this.shown = table.ledger;
    const [service] = table.services;
    expect(table.ledger.slots.get(KEY)?.states ?? service!.states).toBe(service!.states);
    return service!;
  }

  heard(generation: number, exceptional: Uint8Array): void {
    this.sweeps = new Map([[KEY, { generation, exceptional }]]);
  }
}

/** Slots in which the two differ. */
function moved(before: Service, after: Service): number[] {
  return [...after.ring.slots.keys()].filter((slot) => before.ring.slots[slot] !== after.ring.slots[slot]);
}

function marked({ exceptional }: SlotStates): number[] {
  return [...exceptional?.keys() ?? []].filter((slot) => exceptional![slot] === 1);
}

function changing({ predecessor }: SlotStates): number[] {
  return [...predecessor?.owners.keys() ?? []].filter((slot) => predecessor!.owners[slot] !== 0);
}

describe("a change of owners", () => {
  it("opens no window in the first table, nor without word of the slots", () => {
    const control = new Control();
    expect(control.publish(sketchOf()).states).toBe(SETTLED);
    const first = compile({ config: configOf(sketchOf()), hashSeed: 7n, overrides: [], health: new Map(), nowMs: 1 }, { ledger: EMPTY_LEDGER, generation: 0 });
    expect([first.services[0]!.states, first.ledger.slots.size]).toEqual([SETTLED, 0]);
  });

  it("opens one in exactly the slots that move, with whoever owned them", () => {
    const control = new Control();
    const before = control.publish(sketchOf());
    const after = control.publish(sketchOf(), drained("b"));
    const slots = moved(before, after);
    const { states } = after;
    expect(slots.length).toBeGreaterThan(40);
    expect([marked(states), changing(states)]).toEqual([slots, slots]);
    for (const slot of slots) {
      expect(states.predecessor!.owners[slot]).toBe(before.ring.slots[slot]);
      expect(states.deadlinesMs![slot]).toBe(control.nowMs + WINDOW_MS);
    }
    expect([...states.deadlinesMs!].filter((ms) => ms !== 0).length).toBe(slots.length);
    expect(states.nextDeadlineMs).toBe(control.nowMs + WINDOW_MS);
    expect(states.changingUntilNs).toBe(BigInt(control.nowMs + WINDOW_MS + WINDOW_SLACK_MS) * 1_000_000n);
    expect(states.sweepable).toBe(0);
  });

  it("leaves other services and tables without a change as they are", () => {
    const control = new Control();
    const two: ConfigSketch = { ...sketchOf(), pools: { ...sketchOf().pools, db: ["x", "y"] }, services: [WEB, { ...WEB, name: "db", port: 81, pool: "db" }] };
    control.publish(two);
    const { states } = control.publish(two, drained("b"));
    control.nowMs += 1000;
    const [again, other] = control.make(two, drained("b")).services;
    expect(again!.states).toBe(states);
    expect(other!.states).toBe(SETTLED);
  });

  it("within a window moves the owner and the deadline, and not whose the untracked flows are", () => {
    const control = new Control();
    const first = control.publish(sketchOf());
    const second = control.publish(sketchOf(), drained("b"));
    control.nowMs += 1000;
    const third = control.publish(sketchOf(), drained("b", "c"));
    const { states } = third;
    const [twice, once] = [moved(second, third), moved(first, third)];
    expect(changing(states)).toEqual(once);
    for (const slot of once) {
      expect(states.predecessor!.owners[slot]).toBe(first.ring.slots[slot]);
      expect(states.deadlinesMs![slot]).toBe(control.nowMs + WINDOW_MS - (twice.includes(slot) ? 0 : 1000));
    }
    expect(states.nextDeadlineMs).toBe(control.nowMs + WINDOW_MS - 1000);
    expect(states.changingUntilNs).toBe(BigInt(control.nowMs + WINDOW_MS + WINDOW_SLACK_MS) * 1_000_000n);
  });

  it("back to the owner of before closes the window and leaves the mark", () => {
    const control = new Control();
    const first = control.publish(sketchOf());
    const slots = moved(first, control.publish(sketchOf(), drained("b")));
    const { states } = control.publish(sketchOf());
    expect([states.predecessor, states.nextDeadlineMs, states.changingUntilNs]).toEqual([null, null, 0n]);
    expect([marked(states), states.sweepable]).toEqual([slots, slots.length]);
  });
});

describe("after the window", () => {
  function closed(control: Control): { slots: number[]; generation: number } {
    const first = control.publish(sketchOf());
    const slots = moved(first, control.publish(sketchOf(), drained("b")));
    control.nowMs += WINDOW_MS - 1;
    expect(changing(control.publish(sketchOf(), drained("b")).states)).toEqual(slots);
    control.nowMs += 1;
    const { states } = control.publish(sketchOf(), drained("b"));
    expect([states.predecessor, states.deadlinesMs, states.nextDeadlineMs]).toEqual([null, null, null]);
    expect([marked(states), states.sweepable]).toEqual([slots, slots.length]);
    return { slots, generation: 4 };
  }

  it("slots are marked until a walk that began later finds nothing there", () => {
    const control = new Control();
    const { slots, generation } = closed(control);
    const found = new Uint8Array(251);
    control.heard(generation - 1, found);
    expect(marked(control.publish(sketchOf(), drained("b")).states)).toEqual(slots);
    found[slots[0]!] = found[slots[3]!] = 1;
    control.heard(generation, found);
    const { states } = control.publish(sketchOf(), drained("b"));
    expect([marked(states), states.sweepable]).toEqual([[slots[0], slots[3]], 2]);
    control.heard(generation + 2, new Uint8Array(251));
    expect(control.publish(sketchOf(), drained("b")).states).toBe(SETTLED);
  });

  it("a slot that moves again has to wait for another walk", () => {
    const control = new Control();
    const { generation } = closed(control);
    control.heard(generation, new Uint8Array(251));
    const after = control.publish(sketchOf(), drained("b", "c"));
    // The walk settles those that did not move.
    expect(marked(after.states)).toEqual(changing(after.states));
    control.nowMs += WINDOW_MS;
    const { states } = control.publish(sketchOf(), drained("b", "c"));
    expect(states.sweepable).toBe(marked(after.states).length);
    expect(marked(control.publish(sketchOf(), drained("b", "c")).states)).toEqual(marked(states));
  });
});

describe("what packets are sent by", () => {
  it("is what a change starts from, whatever was promised", () => {
    const control = new Control();
    const first = control.publish(sketchOf());
    control.make(sketchOf(), drained("b"));
    control.make(sketchOf(), drained("c"));
    const { states, ring } = control.publish(sketchOf(), drained("a"));
    const slots = [...ring.slots.keys()].filter((slot) => ring.slots[slot] !== first.ring.slots[slot]);
    expect(changing(states)).toEqual(slots);
    expect(slots.every((slot) => states.predecessor!.owners[slot] === first.ring.slots[slot])).toBe(true);
  });

  it("is no window of a service that was away, but flows of it may be remembered anywhere", () => {
    const control = new Control();
    const other: ConfigSketch = { ...sketchOf(), services: [{ ...WEB, name: "other", port: 81 }] };
    control.publish(sketchOf());
    control.publish(sketchOf(), drained("b"));
    const away = control.make(other, drained("b"));
    control.shown = away.ledger;
    expect([...away.ledger.slots.keys()]).toEqual(["tcp 203.0.113.10:81"]);
    const { states } = control.publish(sketchOf(), drained("c"));
    expect([marked(states).length, changing(states), states.sweepable]).toEqual([251, [], 251]);
    control.heard(4, new Uint8Array(251));
    expect(control.publish(sketchOf(), drained("c")).states).toEqual(SETTLED);
  });

  it("keeps its windows when the service was to go and is still there", () => {
    const control = new Control();
    control.publish(sketchOf());
    const { states } = control.publish(sketchOf(), drained("b"));
    control.make({ ...sketchOf(), services: [] });
    expect(control.publish(sketchOf(), drained("b")).states).toBe(states);
  });

  it("has nobody's flows where an id is somebody else's from now on", () => {
    const limits = { backends: 3, services: 4 };
    const control = new Control();
    const first = control.publish({ ...sketchOf(), limits });
    const without = control.publish({ ...sketchOf({}, ["a", "c"]), limits });
    const gone = [1, 2, 3].find((id) => !without.ring.slots.includes(id))!;
    expect(without.states.predecessor!.owners.includes(gone)).toBe(true);
    // Until there is no other id left.
    const others = ["f", "g", "h"].map((name) => control.publish({ ...sketchOf({}, ["a", "c", name]), limits }));
    const after = control.publish({ ...sketchOf({}, ["a", "c", "e"]), limits });
    expect(after.ring.slots.includes(gone)).toBe(true);
    expect(after.states.predecessor?.owners.includes(gone) ?? false).toBe(false);
    // Everybody else's are theirs as before.
    for (const slot of changing(after.states)) {
      expect([first, without, ...others].map(({ ring }) => ring.slots[slot])).toContain(after.states.predecessor!.owners[slot]);
    }
  });

  it("has nobody's flows of such an id in the ring of another seed, either", () => {
    const limits = { backends: 3, services: 4 };
    const control = new Control();
    control.publish({ ...sketchOf(), limits });
    const without = control.publish({ ...sketchOf({}, ["a", "c"]), limits }, { hashSeed: 8n });
    const gone = [1, 2, 3].find((id) => !without.ring.slots.includes(id))!;
    expect(without.states.predecessor!.owners.includes(gone)).toBe(true);
    for (const name of ["f", "g", "h"]) control.publish({ ...sketchOf({}, ["a", "c", name]), limits }, { hashSeed: 8n });
    const { states } = control.publish({ ...sketchOf({}, ["a", "c", "e"]), limits }, { hashSeed: 8n });
    expect(states.predecessor!.scheme.hashSeed).toBe(7n);
    expect(states.predecessor!.owners.includes(gone)).toBe(false);
    expect(states.predecessor!.owners.includes(0)).toBe(true);
  });
});

describe("another way to find slots", () => {
  const WAYS: readonly (readonly [string, Partial<ServiceSketch>, Partial<Intent>])[] = [
    ["seed", {}, { hashSeed: 8n }], ["ring size", { ringSize: 127 }, {}], ["hash input", { hash: "source-ip" }, {}],
  ];

  it.each(WAYS)("(%s) makes every slot change, with the ring of before", (_, service, changes) => {
    const control = new Control();
    const before = control.publish(sketchOf());
    const { states, ring } = control.publish(sketchOf(service), changes);
    expect(states.predecessor).toMatchObject({ scheme: { hashSeed: 7n, ringSize: 251, hash: "5-tuple" }, owners: before.ring.slots });
    expect(marked(states).length).toBe(ring.size);
    expect(states.deadlinesMs!.every((ms) => ms === control.nowMs + WINDOW_MS)).toBe(true);
    // Once more within the window: the first ring counts, for a whole window from now on.
    control.nowMs += 1000;
    const again = control.publish(sketchOf({ ...service, ringSize: 509 }), changes).states;
    expect(again.predecessor).toEqual(states.predecessor);
    expect(again.nextDeadlineMs).toBe(control.nowMs + WINDOW_MS);
    control.nowMs += WINDOW_MS;
    const last = control.publish(sketchOf({ ...service, ringSize: 509 }), changes).states;
    expect([last.predecessor, last.sweepable]).toEqual([null, 509]);
  });

  it("and back: everybody has their flows, and any slot may have exceptions", () => {
    const control = new Control();
    control.publish(sketchOf());
    control.publish(sketchOf(), { hashSeed: 8n });
    const { states } = control.publish(sketchOf());
    expect([states.predecessor, marked(states).length]).toEqual([null, 251]);
  });

  it("and back: a walk settles what has no exceptions", () => {
    const control = new Control();
    control.publish(sketchOf());
    control.publish(sketchOf(), { hashSeed: 8n });
    expect(control.publish(sketchOf()).states.sweepable).toBe(251);
    control.heard(3, new Uint8Array(251));
    expect(control.publish(sketchOf()).states).toBe(SETTLED);
  });

  it("and back, with full tracking: nothing is left of it", () => {
    const control = new Control();
    control.publish(sketchOf({ tracking: "full" }));
    control.publish(sketchOf({ tracking: "full" }), { hashSeed: 8n });
    expect(control.publish(sketchOf({ tracking: "full" })).states).toEqual(SETTLED);
  });
});

describe("tracking", () => {
  it("none has no states, and full no marks, for it looks always", () => {
    const control = new Control();
    const before = control.publish(sketchOf({ tracking: "full" }));
    const after = control.publish(sketchOf({ tracking: "full" }), drained("b"));
    expect([after.states.exceptional, after.states.sweepable]).toEqual([null, 0]);
    expect(changing(after.states)).toEqual(moved(before, after));
    const { states } = control.publish(sketchOf({ tracking: "minimal" }), drained("b"));
    expect([marked(states).length, changing(states)]).toEqual([251, moved(before, after)]);
    expect(control.publish(sketchOf({ tracking: "none" }), drained("c")).states).toBe(SETTLED);
    expect(control.publish(sketchOf({ tracking: "minimal" }), drained("c")).states).toBe(SETTLED);
  });

  it.each(["nat", "fullnat"] as const)("of %s is none here: such flows are remembered elsewhere", (forwarding) => {
    const control = new Control();
    control.publish(sketchOf({ forwarding }));
    const table = control.make(sketchOf({ forwarding }), drained("b"));
    expect(table.services[0]!.states).toBe(SETTLED);
    expect(table.ledger.slots.get(KEY)?.tracking).toBe("none");
    expect(table.remember.tcp).toEqual({ services: 0, idleMs: 0 });
  });

  it("is paced by the longest idle time of those of one protocol that it is minimal for", () => {
    const services: ServiceSketch[] = [
      { ...WEB, flowIdleMs: 20_000 }, { ...WEB, name: "b", port: 81, flowIdleMs: 30_000 },
      { ...WEB, name: "c", port: 82, flowIdleMs: 90_000, tracking: "full" },
      { ...WEB, name: "d", port: 83, flowIdleMs: 80_000, forwarding: "nat" },
      { ...WEB, name: "e", port: 84, flowIdleMs: 10_000, protocol: "udp" },
    ];
    expect(new Control().make({ ...sketchOf(), services }).remember).toEqual({
      flowsMax: 65_536, tcp: { services: 2, idleMs: 30_000 }, udp: { services: 1, idleMs: 10_000 },
    });
  });

  it("of datagrams has windows of at least their idle time", () => {
    const windowOf = (protocol: string, more: string): number => {
      const text = `{ version: 1, pools: { web: { backends: [{ name: a, address: 10.0.0.1 }] } },
        services: [{ name: s, address: 203.0.113.10, port: 80, protocol: ${protocol}, pool: web, ${more} }] }`;
      const parsed = parseConfig("test.yaml", new TextEncoder().encode(text));
      if (!("config" in parsed)) throw new Error(parsed.problems.map(({ reason }) => reason).join("; "));
      return parsed.config.services[0]!.changeWindowMs;
    };
    expect(windowOf("udp", "flowIdle: 10m, changeWindow: 30s")).toBe(600_000);
    expect(windowOf("udp", "flowIdle: 10s, changeWindow: 30s")).toBe(30_000);
    expect(windowOf("udp", "changeWindow: 30s")).toBe(60_000);
    expect(windowOf("tcp", "flowIdle: 10m, changeWindow: 30s")).toBe(30_000);
  });
});
