// What it costs to look up whose region a client is in, by how many prefixes there are: packets of 64 K clients in turn,
// each with a prefix of its own, and the other prefixes all over IPv4. Knows tables; runs nothing.

import { RegionPrefixes } from "../src/model/regions.ts";
import type { ForwardingTable } from "../src/model/table.ts";
import { FEW_FLOWS, frame, oneServiceText, type Case } from "./packet_cases.ts";

/** What the others are measured against. */
export const REGIONS_BASE = "none";
/** Of one /16, in which the clients are. */
const HOSTS = 65_536;
const CLIENTS_AT = 198 * 2 ** 24 + 51 * 2 ** 16;
/** "none", those of the clients alone, and as many as the largest databases make. */
const PREFIXES = [0, HOSTS, 1_048_576] as const;
const REGIONS =
  "geo: { regions: [{ name: eu, networks: [10.0.0.0/8], pool: region }, { name: us, networks: [11.0.0.0/8], pool: region }] }";
const POOL =
  "pools: { region: { health: { type: none }, backends: [{ name: r0, address: 10.0.1.1 }, { name: r1, address: 10.0.1.2 }] } }\n";

export function regionCases(): Case[] {
  return PREFIXES.map((prefixes): Case => ({
    group: "regions", name: prefixes === 0 ? REGIONS_BASE : prefixes.toLocaleString("en"), flows: "64 K flows", clientsFirst: true,
    verdict: "TX_FORWARDED", family: 4, frame: frame(4, {}),
    world: {
      key: `regions ${prefixes}`, text: prefixes === 0 ? oneServiceText("forwarding: l2; tracking: none")
        : `${oneServiceText(`forwarding: l2; tracking: none; ${REGIONS}`)}${POOL}`,
      switches: ["featureL2", "ringClassMedium", ...(prefixes === 0 ? [] : ["featureRegions"] as const)],
      flowsMax: FEW_FLOWS, ...(prefixes === 0 ? {} : { regionPrefixes: prefixes }),
    },
  }));
}

/** The table with so many prefixes in its regions: one for each client, and others of 16 addresses each. */
export function withPrefixes(table: ForwardingTable, count: number | undefined): ForwardingTable {
  if (count === undefined) return table;
  const prefixes = new RegionPrefixes(`${count}`, null, columnsOf(count));
  return { ...table, services: table.services.map((service) =>
    (service.regions === null ? service : { ...service, regions: { ...service.regions, prefixes } })) };
}

function columnsOf(count: number): RegionPrefixes["columns"] {
  const others = count - HOSTS;
  // As many before the clients as their addresses are a part of all.
  const before = Math.round(others * CLIENTS_AT / 2 ** 32);
  const spread = (number: number, from: number, to: number, of: number): number => from + Math.floor(((to - from) / of) * number / 32) * 32;
  const starts = new Uint32Array(count * 4);
  for (let at = 0; at < count; at += 1) {
    const isHost = at >= before && at < before + HOSTS;
    const address = isHost ? CLIENTS_AT + at - before : at < before ? spread(at, 0, CLIENTS_AT, before)
      : spread(at - before - HOSTS, CLIENTS_AT + HOSTS, 2 ** 32, others - before);
    starts.set([0, 0, 0xffff, address], at * 4);
  }
  return {
    starts, regions: Uint8Array.from({ length: count }, (_, at) => 1 + at % 2),
    bits: Uint8Array.from({ length: count }, (_, at) => (at >= before && at < before + HOSTS ? 128 : 124)),
  };
}
