// Who gets how much: real connections and datagrams of one client in the lab, opened one after the other
// and kept open, for each algorithm in each plane that serves it. What clients hear and what backends
// counted has to be the same; that it is right is judged by the algorithm's definition, and by chi-squared where
// chance has a say. Weights are unequal, and change live: then the old ones have to be contradicted.

import type { ChildProcess } from "node:child_process";
import { cpus } from "node:os";
import { createInterface } from "node:readline";
import { fileURLToPath } from "node:url";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import type { Lab } from "../../scripts/lab_network.ts";
import { raiseLab, VIP4, VIP6 } from "../../scripts/lab_network.ts";
import type { Instance } from "../../scripts/lab_services.ts";
import { instanceName, startInstance } from "../../scripts/lab_services.ts";
import { spawnIn } from "../../scripts/namespaces.ts";
import type { Algorithm } from "../../src/model/config.ts";
import { whyNotThorough } from "../support/counts.ts";
import { openInTurn } from "../support/flows_in_turn.ts";
import { describeKernel, KERNEL } from "../support/kernel.ts";
import type { Rule, Weights } from "../support/traffic_shares.ts";
import { bounded, byChance, inTurn, leastLoaded, within } from "../support/traffic_shares.ts";

/** In CI and test:long everything; else each family and each protocol once. */
const isThorough = whyNotThorough() === null;

interface Row {
  readonly plane: "xdp" | "proxy";
  readonly algorithm: Algorithm;
  readonly rules: readonly Rule[];
  /** More of the service. */
  readonly keys?: string;
}

/** Of a thousand series of two choices none is further off; of a hundred of single ones, one is not. */
const TWO_CHOICES_OFF = 7;
const LOAD_FACTOR = 1.25;
/** The XDP program takes turns per CPU, from wherever each begins: none of them is off by more than two. */
const CPU_TURNS_OFF = 2 * cpus().length;

/** A plane that learns an algorithm gets a line here. */
const ROWS: readonly Row[] = [
  { plane: "xdp", algorithm: "maglev", rules: [byChance] },
  { plane: "xdp", algorithm: "consistent-hash", rules: [byChance] },
  { plane: "xdp", algorithm: "round-robin", rules: [within(CPU_TURNS_OFF)] },
  { plane: "xdp", algorithm: "random", rules: [byChance] },
  { plane: "xdp", algorithm: "least-connections", rules: [leastLoaded] },
  { plane: "xdp", algorithm: "power-of-two", rules: [byChance, within(TWO_CHOICES_OFF)] },
  { plane: "xdp", algorithm: "bounded-load", rules: [byChance, bounded(LOAD_FACTOR)] },
  { plane: "xdp", algorithm: "bounded-load", rules: [bounded(LOAD_FACTOR)], keys: "hash: source-ip" },
  { plane: "proxy", algorithm: "maglev", rules: [byChance] },
  { plane: "proxy", algorithm: "consistent-hash", rules: [byChance] },
  { plane: "proxy", algorithm: "round-robin", rules: [inTurn] },
  { plane: "proxy", algorithm: "random", rules: [byChance] },
  { plane: "proxy", algorithm: "least-connections", rules: [leastLoaded] },
  { plane: "proxy", algorithm: "power-of-two", rules: [byChance, within(TWO_CHOICES_OFF)] },
  { plane: "proxy", algorithm: "bounded-load", rules: [byChance, bounded(LOAD_FACTOR)] },
  // One client, and so one slot: without the bound it would all be one backend's.
  { plane: "proxy", algorithm: "bounded-load", rules: [bounded(LOAD_FACTOR)], keys: "hash: source-ip" },
];

const FIRST: Weights = { "web-1": 1, "web-2": 2, "web-3": 5 };
const CHANGED: Weights = { "web-1": 5, "web-2": 1, "web-3": 2 };
/** Whole rounds of eight turns. No more: a process may have twenty thousand files open, and the proxy keeps the sessions of all rows. */
const FLOWS = isThorough ? 800 : 480;
const CLIENT_PORT = { before: 10_000, after: 20_000 } as const;
const SERVER_PORT = 9000;
interface Way { readonly protocol: "tcp" | "udp"; readonly vip: string }
const SOME: readonly Way[] = [{ protocol: "tcp", vip: VIP4 }, { protocol: "udp", vip: VIP6 }];
const WAYS: readonly Way[] = isThorough
  ? [...SOME, { protocol: "tcp", vip: VIP6 }, { protocol: "udp", vip: VIP4 }] : SOME;
const PORTS = ROWS.length * WAYS.length;

const fixture = (name: string): string => fileURLToPath(new URL(`fixtures/${name}`, import.meta.url));
const portOf = (row: Row, way: Way): number => SERVER_PORT + ROWS.indexOf(row) * WAYS.length + WAYS.indexOf(way);
/** The service, and its pool: a backend's load is that of all services of its pool. */
const nameOf = (row: Row, way: Way): string => `at-${portOf(row, way)}`;

interface NamedServer {
  readonly name: string;
  readonly process: ChildProcess;
  readonly lines: AsyncIterator<string, undefined>;
}

async function serve(lab: Lab): Promise<NamedServer[]> {
  return Promise.all(lab.backends.map(async ({ name, namespace, ipv4, ipv6 }) => {
    const args = [fixture("named_server.mjs"), name, SERVER_PORT, PORTS, VIP4, VIP6, ipv4, ipv6].map(String);
    const server = spawnIn(namespace, process.execPath, args, { stdio: ["pipe", "pipe", "inherit"] });
    const lines = createInterface({ input: server.stdout! })[Symbol.asyncIterator]();
    expect(await lines.next()).toEqual({ done: false, value: "ready" });
    return { name, process: server, lines };
  }));
}

/** What backends counted at this port so far. */
async function served(servers: readonly NamedServer[], port: number, protocol: "tcp" | "udp"): Promise<Map<string, number>> {
  return new Map(await Promise.all(servers.map(async ({ name, process: server, lines }) => {
    server.stdin?.write("count\n");
    const { value = "{}" } = await lines.next();
    return [name, (JSON.parse(value) as Record<string, Record<string, number>>)[port]?.[protocol] ?? 0] as const;
  })));
}

function configText(instance: string, lab: Lab, plane: Row["plane"], weights: Weights): string {
  const backends = lab.backends.map(({ name, ipv4 }) => `{ name: ${name}, address: "${ipv4}", weight: ${weights[name]!} }`);
  const ways = ROWS.filter((row) => row.plane === plane).flatMap((row) => WAYS.map((way) => ({ row, way })));
  const pools = ways.map(({ row, way }) =>
    `  ${nameOf(row, way)}: { health: { type: none }, backends: [${backends.join(", ")}] }`);
  const services = ways.map(({ row, way }) =>
    `  - { name: ${nameOf(row, way)}, address: "${way.vip}", port: ${portOf(row, way)}, protocol: ${way.protocol}, `
    + `pool: ${nameOf(row, way)}, forwarding: l2, algorithm: ${row.algorithm}${row.keys === undefined ? "" : `, ${row.keys}`} }`);
  return `version: 1
instance: ${instance}
dataplane: { mode: ${plane}, interfaces: [eth0], hashSeed: "0123456789abcdef" }
pools:
${pools.join("\n")}
services:
${services.join("\n")}
`;
}

describeKernel("shares of traffic", KERNEL, () => {
  let lab: Lab;
  let servers: NamedServer[];
  beforeAll(async () => {
    lab = raiseLab({ label: "shares", backends: 3, mtu: 1500, localVip: true });
    servers = await serve(lab);
  });
  afterAll(() => { lab?.close(); });

  /** Opens flows in turn and hears who has each; once they are closed, backends have counted the same. */
  async function place(row: Row, way: Way, firstPort: number): Promise<readonly string[]> {
    const port = portOf(row, way);
    const before = await served(servers, port, way.protocol);
    const flows = await openInTurn(lab, { protocol: way.protocol, address: way.vip, port, count: FLOWS, firstPort });
    const after = await served(servers, port, way.protocol);
    await flows.close();
    for (const [name, count] of after)
      expect(count - before.get(name)!, `${name} counted`).toBe(flows.names.filter((each) => each === name).length);
    return flows.names;
  }

  describe.each(["xdp", "proxy"] as const)("in the %s plane", (plane) => {
    const rows = ROWS.filter((row) => row.plane === plane)
      .map((row) => ({ ...row, row, title: [row.algorithm, row.keys].filter(Boolean).join(", ") }));
    let instance: Instance;
    const name = instanceName(`shares-${plane}`);
    beforeAll(async () => { instance = await startInstance(lab, name, configText(name, lab, plane, FIRST)); });
    afterAll(async () => { await instance?.remove(); });

    /** A continuum's shares are its own; that it is right is shown beside libketama's. */
    async function expected(row: Row, way: Way, weights: Weights): Promise<Weights> {
      if (row.algorithm !== "consistent-hash") return weights;
      const { backends } = await instance.api.ring({ service: nameOf(row, way), down: [], remove: [] });
      return Object.fromEntries(backends.map((each) => [each.name, each.slots]));
    }

    function judge({ rules }: Row, placed: readonly string[], right: Weights, wrong: Weights): void {
      expect(placed).toHaveLength(FLOWS);
      for (const rule of rules) {
        expect(rule(placed, right)).toEqual([]);
        expect(rule(placed, wrong)).not.toEqual([]);
      }
    }

    describe.each(rows)("$title", ({ row }) => {
      it.each(WAYS)("of $protocol flows to $vip", async (way) => {
        judge(row, await place(row, way, CLIENT_PORT.before), await expected(row, way, FIRST), CHANGED);
      });
    });

    describe("after the weights have changed", () => {
      let old: Weights[];
      const way = WAYS[0]!;
      beforeAll(async () => {
        old = await Promise.all(rows.map(({ row }) => expected(row, way, FIRST)));
        instance.configure(configText(name, lab, plane, CHANGED));
        await instance.api.reload("test");
      });

      it.each(rows)("$title follows them", async ({ row }) => {
        const at = rows.findIndex((each) => each.row === row);
        judge(row, await place(row, way, CLIENT_PORT.after), await expected(row, way, CHANGED), old[at]!);
      });
    });
  });
});
