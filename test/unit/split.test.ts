// The traffic split: which slots a part has, where they go when nobody of it is up, and what is said of it.

import { describe, expect, it } from "vitest";
import { formatEndpoint, parseEndpoint } from "../../src/model/address.ts";
import { layServices } from "../../src/cli/nouns.ts";
import { nextChoice } from "../../src/model/choice.ts";
import { compile } from "../../src/model/compile.ts";
import { explain } from "../../src/model/explain.ts";
import { ringReport } from "../../src/model/ring_report.ts";
import { isAllFailedOpen, isFailedOpen } from "../../src/model/split.ts";
import type { BackendHealth, ForwardingTable, Intent, Service } from "../../src/model/table.ts";
import { EMPTY_LEDGER } from "../../src/model/table.ts";
import { movements } from "../../src/supervisor/movements.ts";
import { serviceViews } from "../../src/supervisor/view.ts";
import { wayTargets } from "../../src/dataplane/return_path.ts";
import { probeTargets } from "../../src/health/target.ts";
import { configOf } from "../support/configs.ts";
import type { ConfigSketch, ServiceSketch } from "../support/configs.ts";

const SIZE = 10_007;
const DOWN: BackendHealth = { alive: false, known: true, admission: 0, reason: "refused", sinceMs: 1 };

const POOLS: ConfigSketch["pools"] = {
  web: [{ name: "a", address: "10.0.1.1" }, { name: "b", address: "10.0.1.2" }, { name: "c", address: "10.0.1.3" }],
  canary: [{ name: "a", address: "10.0.2.1" }, { name: "b", address: "10.0.2.2" }],
  lab: [{ name: "x", address: "10.0.3.1" }],
};

function split(percents: Readonly<Record<string, number>>): Pick<ServiceSketch, "split"> {
  return { split: Object.entries(percents).map(([pool, percent]) => ({ name: `the-${pool}`, pool, hundredths: percent * 100 })) };
}

function intentOf(service: Partial<ServiceSketch>, down: readonly string[] = []): Intent {
  const config = configOf({ pools: POOLS, services: [{ name: "web", ringSize: SIZE, ...service }] });
  return { config, hashSeed: 7n, overrides: [], health: new Map(down.map((name) => [name, DOWN])), nowMs: 10 };
}

function tableOf(service: Partial<ServiceSketch>, down: readonly string[] = []): ForwardingTable {
  return compile(intentOf(service, down), { ledger: EMPTY_LEDGER, generation: 0 });
}

/** Slot → "pool/backend". */
function owners(table: ForwardingTable): (string | null)[] {
  return Array.from(table.services[0]!.ring.slots, (id) => table.destinations.get(id)?.name ?? null);
}

function poolOf(name: string | null | undefined): string {
  return name?.slice(0, name.indexOf("/")) ?? "nobody";
}

function countsOf(names: readonly (string | null)[]): Record<string, number> {
  const counts: Record<string, number> = {};
  for (const name of names) counts[poolOf(name)] = (counts[poolOf(name)] ?? 0) + 1;
  return counts;
}

/** "from to" → slots. */
function moves(before: readonly (string | null)[], after: readonly (string | null)[]): Record<string, number> {
  const found: Record<string, number> = {};
  for (const [slot, name] of before.entries()) {
    if (name === after[slot]) continue;
    const way = `${poolOf(name)} ${poolOf(after[slot])}`;
    found[way] = (found[way] ?? 0) + 1;
  }
  return found;
}

const CANARY = split({ web: 95, canary: 5 });
const ALL_DOWN = ["web/a", "web/b", "web/c", "canary/a", "canary/b"];

describe("slots of a split service", () => {
  it("are divided by the percentages, to the nearest slot", () => {
    expect(countsOf(owners(tableOf(CANARY)))).toEqual({ web: 9507, canary: 500 });
    expect(countsOf(owners(tableOf(split({ web: 50, canary: 49.75, lab: 0.25 }))))).toEqual({ web: 5004, canary: 4978, lab: 25 });
    expect(countsOf(owners(tableOf(split({ web: 100, canary: 0 }))))).toEqual({ web: SIZE });
  });

  it("move from one part to the other by as much as the percentage changes, and no other one moves", () => {
    const [five, ten, none] = [tableOf(CANARY), tableOf(split({ web: 90, canary: 10 })), tableOf({})].map(owners);
    expect(moves(five!, ten!)).toEqual({ "web canary": 501 });
    expect(moves(none!, five!)).toEqual({ "web canary": 500 });
  });

  it("have in each part the backend that a service with its pool alone would have", () => {
    const [web, canary, both] = [tableOf({}), tableOf({ pool: "canary" }), tableOf(split({ web: 60, canary: 40 }))].map(owners);
    for (const [slot, name] of both!.entries()) expect(name).toBe((poolOf(name) === "web" ? web : canary)![slot]);
  });

  it("are lent within their part while somebody of it is up", () => {
    const [before, after] = [tableOf(CANARY), tableOf(CANARY, ["canary/a"])].map(owners);
    expect(moves(before!, after!)).toEqual({ "canary canary": before!.filter((name) => name === "canary/a").length });
  });

  it("go to the other parts by their percentages where nobody of a part is up, and come back", () => {
    const shares = split({ web: 60, canary: 30, lab: 10 });
    const [before, after] = [tableOf(shares), tableOf(shares, ["canary/a", "canary/b"])].map(owners);
    const found = moves(before!, after!);
    expect(Object.keys(found).sort()).toEqual(["canary lab", "canary web"]);
    expect(found["canary web"]! + found["canary lab"]!).toBe(3002);
    // Six to one, of 3,002 draws: within four standard deviations.
    expect(Math.abs(found["canary web"]! - (3002 * 6) / 7)).toBeLessThan(4 * Math.sqrt(3002 * (6 / 7) * (1 / 7)));
    const lent = tableOf(shares, ["canary/a", "canary/b"]).warnings;
    expect(lent).toEqual(["service web, subset the-canary: no backend can take flows"]);
  });

  it("go to a small part in full, and to none that is to have nothing", () => {
    const web = ["web/a", "web/b", "web/c"];
    expect(countsOf(owners(tableOf(CANARY, web)))).toEqual({ canary: SIZE });
    expect(countsOf(owners(tableOf(split({ web: 100, canary: 0 }), web)))).toEqual({ nobody: SIZE });
    expect(countsOf(owners(tableOf(CANARY, ALL_DOWN)))).toEqual({ nobody: SIZE });
  });

  it("are those of the parts that have a sorry backend where nobody of any part is up", () => {
    const intent = intentOf(CANARY, ["web/a", "web/b", "web/c", "canary/b"]);
    const { config } = intent;
    const pools = config.pools.map((pool) => (pool.name === "canary" ? { ...pool, sorry: "a" } : pool));
    const table = compile({ ...intent, config: { ...config, pools } }, { ledger: EMPTY_LEDGER, generation: 0 });
    expect(countsOf(owners(table))).toEqual({ canary: SIZE });
    const some = compile({ ...intent, health: new Map([["canary/b", DOWN]]), config: { ...config, pools } }, { ledger: EMPTY_LEDGER, generation: 0 });
    expect(countsOf(owners(some))).toEqual({ web: SIZE });
  });

  it("stay with a part that fails open, whose dead backends alone keep flows", () => {
    const table = tableOf({ ...CANARY, failOpen: true }, ["canary/a", "canary/b", "web/c"]);
    expect(countsOf(owners(table))).toEqual({ web: 9507, canary: 500 });
    const [service] = table.services;
    expect(service!.failedOpen).toBe(true);
    const open = [...table.destinations.values()].filter(({ id }) => isFailedOpen(service!, id)).map(({ name }) => name);
    expect(open.sort()).toEqual(["canary/a", "canary/b"]);
  });
});

describe("a part that is to have nothing", () => {
  const shares = { ...split({ web: 100, canary: 0 }), failOpen: true };
  const openIn = (down: readonly string[]): unknown[] => {
    const table = tableOf(shares, down);
    const [service] = table.services;
    return [service!.failedOpen, isAllFailedOpen(service!), table.warnings];
  };

  it("never fails open, and has no say in whether the others do", () => {
    const nobody = "service web, subset the-canary: no backend can take flows";
    const all = "service web, subset the-web: every backend is out, and failOpen sends to all of them";
    expect(openIn(["canary/a", "canary/b"])).toEqual([false, false, [nobody]]);
    expect(openIn(["web/a", "web/b", "web/c"])).toEqual([true, true, [all]]);
    expect(openIn(ALL_DOWN)).toEqual([true, true, [all, nobody]]);
    expect(countsOf(owners(tableOf(shares, ALL_DOWN)))).toEqual({ web: SIZE });
  });
});

describe("a connection that was refused", () => {
  function order(service: Service, table: ForwardingTable, slot: number): string[] {
    const tried = new Set([service.ring.slots[slot]!]);
    const names: string[] = [];
    for (let next = nextChoice(table, service, slot, tried); next !== null; next = nextChoice(table, service, slot, tried)) {
      tried.add(next.id);
      names.push(next.name);
    }
    return names;
  }

  it("goes to the others of its part, and then to those of the next one", () => {
    const table = tableOf(CANARY);
    const [service] = table.services;
    for (let slot = 0; slot < 500; slot++) {
      const home = poolOf(owners(table)[slot]);
      const pools = order(service!, table, slot).map(poolOf);
      expect(pools).toEqual(home === "web" ? ["web", "web", "canary", "canary"] : ["canary", "web", "web", "web"]);
    }
  });
});

describe("what is said of a split service", () => {
  function told(service: Partial<ServiceSketch>, down: readonly string[], pool: string): string[] {
    const intent = intentOf(service, down);
    const table = compile(intent, { ledger: EMPTY_LEDGER, generation: 0 });
    const [web] = table.services;
    const plain = owners(compile(intentOf(service), { ledger: EMPTY_LEDGER, generation: 0 }));
    const to = { address: web!.config.network.address, port: 80 };
    for (let port = 1024; port < 65_536; port++) {
      const flow = explain(table, intent.config, web!, parseEndpoint(formatEndpoint(to.address, port))!, to);
      if (poolOf(plain[flow.slot]) !== pool) continue;
      expect(flow.backend).toBe(owners(table)[flow.slot]);
      expect(flow.configuredOwner).toBe(plain[flow.slot]);
      return flow.steps.filter(({ step }) => step.startsWith("subset")).map(({ step, detail }) => `${step}: ${detail}`);
    }
    throw new Error("no client found");
  }

  it("is by explain which part has the slot, and to whom it is lent", () => {
    expect(told(CANARY, [], "canary")).toEqual(["subset: the-canary (5%) has this slot: its pool is canary"]);
    expect(told(CANARY, ["canary/a", "canary/b"], "canary")).toEqual([
      "subset: the-canary (5%) has this slot: its pool is canary",
      "subset now: nobody of the-canary can take flows: the slot is lent to the-web (95%), whose pool is web",
    ]);
    expect(told(CANARY, [], "web")).toEqual(["subset: the-web (95%) has this slot: its pool is web"]);
  });

  it("is by status each part with what it has", () => {
    const down = ["canary/a", "canary/b"];
    const intent = intentOf(CANARY, down);
    const table = compile(intent, { ledger: EMPTY_LEDGER, generation: 0 });
    const none = new Map<string, never>();
    const counters = {
      services: none, backends: none, serviceFlows: none, backendFlows: none, verdicts: {}, incidents: none,
    };
    const input = {
      intent, table, now: { atMs: 0, counters }, before: null, empty: new Set(), certificates: none,
      plane: { listening: none, failed: none, neighbours: none, pathMtus: none },
    } as unknown as Parameters<typeof serviceViews>[0];
    const [view] = serviceViews(input);
    expect(view).toMatchObject({ pool: null, backends: 5, backendsUp: 3 });
    expect(view?.split).toMatchObject([
      { name: "the-web", pool: "web", percent: 95, slots: SIZE, share: 1, backends: 3, backendsUp: 3, failedOpen: false },
      { name: "the-canary", pool: "canary", percent: 5, slots: 0, share: 0, backends: 2, backendsUp: 0 },
    ]);
    expect(layServices([view!])).toContain("web 95% (now 100%), canary 5% (now 0%)");
  });

  it("is by plan how many slots a change moves", () => {
    const before = tableOf(CANARY);
    const after = compile(intentOf(split({ web: 90, canary: 10 })), before);
    expect(movements(before, after, "xdp")).toMatchObject([{ change: "changed", slotsMoved: 501, ringSize: SIZE }]);
  });

  it("is by ring what each backend is to have of its part, by its full name", () => {
    const report = ringReport(intentOf(CANARY), "web", ["canary/b"], []);
    const ideals = Object.fromEntries(report!.backends.map(({ name, ideal }) => [name, Math.round(ideal)]));
    expect(ideals).toEqual({ "web/a": 3169, "web/b": 3169, "web/c": 3169, "canary/a": 250, "canary/b": 250 });
    expect(report!.slots.filter((name) => name === "canary/a")).toHaveLength(500);
  });

  it("reaches whoever asks for a service's backends", () => {
    const { config } = intentOf({ ...CANARY, forwarding: "nat" });
    const probed = { ...config, pools: config.pools.map((pool) => ({ ...pool, health: configOf({
      pools: { web: ["a"] }, services: [], probes: true }).pools[0]!.health })) };
    const used = probeTargets(probed, "proxy").map(({ name, port }) => `${name} ${port}`);
    expect(used).toEqual(["web/a 80", "web/b 80", "web/c 80", "canary/a 80", "canary/b 80"]);
    expect(wayTargets(config).map(({ name }) => name)).toEqual(["web/a", "web/b", "web/c", "canary/a", "canary/b"]);
  });
});
