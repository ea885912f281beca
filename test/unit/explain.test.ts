// explain and ring: what they say has to be what decide() and compile() do.

import { describe, expect, it } from "vitest";
import { parseEndpoint, parsePrefix } from "../../src/model/address.ts";
import { compile } from "../../src/model/compile.ts";
import type { Config } from "../../src/model/config.ts";
import { explain } from "../../src/model/explain.ts";
import type { ExplainedFlow } from "../../src/model/explain.ts";
import { ringReport } from "../../src/model/ring_report.ts";
import type { BackendHealth, ForwardingTable, Intent, Ledger, Override } from "../../src/model/table.ts";
import { ADMISSION_MAX, EMPTY_LEDGER } from "../../src/model/table.ts";
import { configOf } from "../support/configs.ts";
import type { ConfigSketch } from "../support/configs.ts";

const WEB: ConfigSketch = { pools: { web: ["a", "b", "c", "d"] }, services: [{ name: "web" }] };
const DOWN: BackendHealth = { alive: false, known: true, admission: 0, reason: "refused", sinceMs: 1 };

function intentOf(sketch: ConfigSketch, changes: Partial<Intent> = {}): Intent {
  return { config: configOf(sketch), hashSeed: 7n, overrides: [], health: new Map(), nowMs: 10, ...changes };
}

function told(intent: Intent, client: string): { flow: ExplainedFlow; table: ForwardingTable } {
  const table = compile(intent, { ledger: EMPTY_LEDGER, generation: 0 });
  const service = table.services[0]!;
  const { network, ports } = service.config;
  const to = { address: network.address, port: ports.from };
  const flow = explain(table, intent.config, service, parseEndpoint(client)!, to);
  return { flow, table };
}

const CLIENTS = Array.from({ length: 300 }, (_, index) => `198.51.100.${index % 250}:${1024 + index * 7}`);

describe("explain", () => {
  it("tells the way to the owner of the slot", () => {
    const { flow, table } = told(intentOf(WEB), "198.51.100.7:40000");
    expect(flow.steps.map((each) => each.step)).toEqual([
      "service", "hash input", "hash", "slot", "configured owner", "eligible", "older flows", "verdict",
    ]);
    expect(flow.steps[1]?.detail).toBe("5-tuple: 198.51.100.7:40000 to 203.0.113.10:80, protocol 6 (tcp)");
    expect(flow.backend).toBe(flow.configuredOwner);
    expect(table.destinations.get(table.services[0]!.ring.slots[flow.slot]!)?.name).toBe(flow.backend);
    expect(flow.slot).toBe(Math.floor(flow.hash * 251 / 2 ** 32));
    expect(flow).toMatchObject({ verdict: "TX_FORWARDED", forwarding: "l2" });
  });

  it("tells the draws of a lent slot, the last of which found the one who has it", () => {
    const health = new Map([["web/a", DOWN], ["web/b", DOWN]]);
    const intent = intentOf(WEB, { health });
    let lent = 0;
    for (const client of CLIENTS) {
      const { flow } = told(intent, client);
      const chain = flow.steps.filter((each) => each.step.startsWith("lending "));
      const isLent = ["web/a", "web/b"].includes(flow.configuredOwner!);
      expect(chain.length > 0).toBe(isLent);
      if (!isLent) continue;
      lent += 1;
      expect(flow.steps.find((each) => each.step === "eligible")?.detail).toContain("is down (refused)");
      expect(chain.at(-1)?.detail).toContain(`: ${flow.backend!} takes all of its slots`);
      for (const refused of chain.slice(0, -1)) expect(refused.detail).toContain("is down");
    }
    expect(lent).toBeGreaterThan(50);
  });

  it("tells a ramp: whether the slot's draw is below the admission", () => {
    const half: BackendHealth = { alive: true, known: true, admission: ADMISSION_MAX / 2, reason: "ramp", sinceMs: 1 };
    const intent = intentOf(WEB, { health: new Map([["web/a", half]]) });
    const outcomes = new Set<string>();
    for (const client of CLIENTS) {
      const { flow } = told(intent, client);
      if (flow.configuredOwner !== "web/a") continue;
      const { detail } = flow.steps.find((each) => each.step === "eligible")!;
      expect(detail).toMatch(/^web\/a admits 32768 of 65536; this slot draws \d+: (yes|no)$/);
      expect(detail.endsWith("yes")).toBe(flow.backend === "web/a");
      outcomes.add(detail.slice(-3));
    }
    expect(outcomes.size).toBe(2);
  });

  it("names who drained, what failed open, and that nobody is left", () => {
    const overrides: Override[] = ["a", "b", "c", "d"].map((name) => ({
      target: `web/${name}`, change: { kind: "drain" }, actor: "ann", reason: null, atMs: 1, expiresAtMs: null,
    }));
    const { flow } = told(intentOf(WEB, { overrides }), CLIENTS[0]!);
    expect(flow).toMatchObject({ verdict: "DROP_NO_BACKEND", backend: null, destination: null });
    expect(flow.steps.map((each) => each.detail).join("\n")).toMatch(/is drained by ann\n.*nobody.*\n.*\nDROP_NO_BACKEND: no backend/);
    const dead = new Map(overrides.map((each) => [each.target, DOWN]));
    const open = { ...WEB, services: [{ name: "web", failOpen: true }] };
    const opened = told(intentOf(open, { health: dead, overrides: overrides.slice(0, 1) }), CLIENTS[0]!).flow;
    expect(opened.verdict).toBe("TX_FORWARDED");
    expect(opened.steps.some((each) => each.detail.includes("too few backends are up (failOpen, panicBelow)"))).toBe(true);
  });

  it("stops at the policy for a client that it denies", () => {
    const intent = intentOf(WEB);
    const [service] = intent.config.services;
    const policy = { allow: [], deny: [parsePrefix("198.51.100.0/24")!] };
    const config: Config = { ...intent.config, services: [{ ...service!, policy }] };
    const denied = told({ ...intent, config }, "198.51.100.7:1").flow;
    expect(denied).toMatchObject({ verdict: "DROP_DENIED", backend: null });
    expect(denied.steps.map((each) => each.step)).toEqual(["service", "policy", "verdict"]);
    expect(denied.steps[1]?.detail).toContain("198.51.100.7 is denied");
    expect(told({ ...intent, config }, "192.0.2.1:1").flow.verdict).toBe("TX_FORWARDED");
  });

  it("tells whom packets name for the second chance, in a slot that is changing", () => {
    const sketch: ConfigSketch = { ...WEB, services: [{ name: "web", forwarding: "gue", secondChance: true, tracking: "minimal" }] };
    const intent = intentOf({ ...sketch, pools: { web: ["a", "b", "c", "d", "e"] } });
    const follow = (of: Intent, ledger: Ledger, generation: number): ForwardingTable =>
      compile(of, { ledger, generation, changes: { nowMs: 1, shown: ledger, sweeps: new Map() } });
    const before = follow(intentOf(sketch), EMPTY_LEDGER, 0);
    const table = follow(intent, before.ledger, 1);
    const service = table.services[0]!;
    const { network, ports } = service.config;
    let named = 0;
    for (const client of CLIENTS) {
      const flow = explain(table, intent.config, service, parseEndpoint(client)!, { address: network.address, port: ports.from }, null, 1n);
      const was = before.destinations.get(before.services[0]!.ring.slots[flow.slot]!)!.name;
      const isMoved = was !== flow.backend;
      expect(flow.alternates).toEqual(isMoved ? [was] : []);
      const { detail } = flow.steps.find((each) => each.step === "second chance")!;
      expect(detail).toBe(isMoved
        ? `its packets name ${was}; those of a flow from before that nobody remembers go to ${was} and name ${flow.backend!}`
        : "packets name nobody else");
      named += isMoved ? 1 : 0;
    }
    expect(named).toBeGreaterThan(20);
    expect(told(intentOf(WEB), CLIENTS[0]!).flow).toMatchObject({ alternates: [] });
  });

  it("hashes the source alone where that was asked for", () => {
    const intent = intentOf({ ...WEB, services: [{ name: "web", hash: "source-ip" }] });
    const [one, two] = ["198.51.100.7:1", "198.51.100.7:2"].map((client) => told(intent, client).flow);
    expect(one!.hash).toBe(two!.hash);
    expect(one!.steps[1]?.detail).toBe("source-ip: the first 32 bits of 198.51.100.7");
  });
});

describe("ring", () => {
  it("has exactly the keys that were promised, backends in key order, and names per slot", () => {
    const report = ringReport(intentOf(WEB), "web", [], [])!;
    expect(Object.keys(report)).toEqual(["service", "size", "backends", "slots"]);
    expect(Object.keys(report.backends[0]!)).toEqual(["name", "weight", "slots", "share", "ideal"]);
    expect(report.backends.map((each) => each.name)).toEqual(["a", "b", "c", "d"]);
    for (const { name, slots, share, ideal } of report.backends) {
      expect(report.slots.filter((each) => each === name)).toHaveLength(slots);
      expect(share).toBeCloseTo(slots / 251);
      expect(ideal).toBeCloseTo(251 / 4);
      expect(Math.abs(slots - ideal)).toBeLessThanOrEqual(1);
    }
  });

  it("--down moves the slots of that backend alone; --remove rebuilds without it", () => {
    const plain = ringReport(intentOf(WEB), "web", [], [])!;
    const down = ringReport(intentOf(WEB), "web", ["web/b"], [])!;
    const moved = plain.slots.flatMap((name, slot) => (down.slots[slot] === name ? [] : [name]));
    expect(new Set(moved)).toEqual(new Set(["b"]));
    expect(down.backends[1]).toMatchObject({ name: "b", slots: 0 });
    const removed = ringReport(intentOf(WEB), "web", [], ["web/b"])!;
    const without = ringReport(intentOf({ ...WEB, pools: { web: [
      "a", { name: "c", address: "10.0.0.3" }, { name: "d", address: "10.0.0.4" },
    ] } }), "web", [], [])!;
    expect(removed).toEqual(without);
  });

  it("nobody has a slot when nobody can, and a service that is not there has no ring", () => {
    const names = ["web/a", "web/b", "web/c", "web/d"];
    expect(new Set(ringReport(intentOf(WEB), "web", names, [])!.slots)).toEqual(new Set([null]));
    expect(new Set(ringReport(intentOf(WEB), "web", [], names)!.slots)).toEqual(new Set([null]));
    expect(ringReport(intentOf(WEB), "other", [], [])).toBeNull();
  });
});
