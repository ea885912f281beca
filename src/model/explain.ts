// explain: which backend a client meets at a service, and each step of the reason. The same functions
// that decide, with words between them. Pure; knows a table and the config it came from.

import type { Address } from "./address.ts";
import { formatEndpoint } from "./address.ts";
import { ringKey } from "./compile.ts";
import type { Config } from "./config.ts";
import { flowHash, slotOf, sourceHash } from "./flow_hash.ts";
import { LENDING_DRAWS_MAX, lendingDraw } from "./lending.ts";
import { keyWord } from "./permutation.ts";
import type { Destination, ForwardingTable, Service } from "./table.ts";
import { ADMISSION_MAX } from "./table.ts";

export interface ExplainStep {
  readonly step: string;
  readonly detail: string;
}

export interface ExplainedFlow {
  readonly service: string;
  readonly client: string;
  readonly verdict: string;
  /** "pool/backend", or null with the reason in the last step. */
  readonly backend: string | null;
  readonly destination: string | null;
  readonly forwarding: string;
  readonly hash: number;
  readonly slot: number;
  readonly configuredOwner: string | null;
  readonly steps: ExplainStep[];
}

export interface Client {
  readonly address: Address;
  readonly port: number;
}

const PROTOCOL_NUMBERS = { tcp: 6, udp: 17 } as const;
/** Steps of a lending chain that are told one by one. */
const CHAIN_TOLD_MAX = 8;

/** What becomes of a new flow. One that the flow table knows stays where it is while its backend is alive. */
export function explain(
  table: ForwardingTable, config: Config, service: Service, client: Client,
): ExplainedFlow {
  const endpoint = formatEndpoint(service.config.address, service.config.port);
  const { protocol } = service.config;
  const steps: ExplainStep[] = [{
    step: "service",
    detail: `${service.name} is ${protocol} ${endpoint}, forwarding ${service.config.forwarding}`,
  }];
  const { hash, input } = hashOf(service, client);
  const slot = slotOf(hash, service.ring.size);
  steps.push(
    { step: "hash input", detail: input },
    { step: "hash", detail: `HalfSipHash-1-3 with the instance's seed: 0x${hex(hash)}` },
    { step: "slot", detail: `${slot} of ${service.ring.size} (hash × ${service.ring.size} ÷ 2^32)` },
  );
  const owner = table.destinations.get(service.ring.configured[slot] ?? 0) ?? null;
  const chosen = table.destinations.get(service.ring.slots[slot] ?? 0) ?? null;
  steps.push(...ownerSteps(config, service, slot, owner));
  if (owner !== null && owner.id !== chosen?.id) {
    steps.push(...lendingSteps(table, config, service, slot, chosen));
  }
  steps.push(finalStep(service, chosen));
  return {
    service: service.name,
    client: formatEndpoint(client.address, client.port),
    verdict: chosen === null ? "DROP_NO_BACKEND" : "TX_FORWARDED",
    backend: chosen?.name ?? null,
    destination: chosen === null ? null : formatEndpoint(chosen.address, chosen.port),
    forwarding: service.config.forwarding,
    hash,
    slot,
    configuredOwner: owner?.name ?? null,
    steps,
  };
}

function hashOf(service: Service, client: Client): { hash: number; input: string } {
  const { address, port, protocol, hash, sourcePrefix } = service.config;
  if (hash === "source-ip") {
    const bits = client.address.family === 4 ? sourcePrefix.ipv4 : sourcePrefix.ipv6;
    return {
      hash: sourceHash(service.hashSeed, client.address.bytes, sourcePrefix),
      input: `source-ip: the first ${bits} bits of ${client.address.text}`,
    };
  }
  const number = PROTOCOL_NUMBERS[protocol];
  const from = formatEndpoint(client.address, client.port);
  return {
    hash: flowHash(
      service.hashSeed, client.address.bytes, client.port, address.bytes, port, number,
    ),
    input: `5-tuple: ${from} to ${formatEndpoint(address, port)}, protocol ${number} (${protocol})`,
  };
}

function ownerSteps(
  config: Config, service: Service, slot: number, owner: Destination | null,
): ExplainStep[] {
  if (owner === null) {
    return [{ step: "configured owner", detail: "nobody: no backend has a positive weight" }];
  }
  return [
    { step: "configured owner", detail: `${owner.name} (weight ${owner.weight})` },
    { step: "eligible", detail: eligibility(config, service, slot, owner).why },
  ];
}

/** Why a destination may or may not take new flows of a slot: lending's rule in words. */
function eligibility(
  config: Config, service: Service, slot: number, destination: Destination,
): { readonly is: boolean; readonly why: string } {
  const { name, admission, alive, stateProvenance } = destination;
  // failOpen makes everybody eligible but those that an operator drains, who then have no slot at all.
  if (service.failedOpen && service.ring.slots.includes(destination.id)) {
    return { is: true, why: `${name} is taken as eligible: every backend is out, and failOpen is set` };
  }
  if (!alive) {
    const reason = stateProvenance.source === "health" ? ` (${stateProvenance.reason})` : "";
    return { is: false, why: `${name} is down${reason}` };
  }
  if (admission === 0) {
    const by = stateProvenance.source === "override" ? ` by ${stateProvenance.actor}` : "";
    return { is: false, why: `${name} is drained${by}` };
  }
  if (admission === ADMISSION_MAX) return { is: true, why: `${name} takes all of its slots` };
  const draw = lendingDraw(slot, keyWord(keyOf(config, service, destination))) & 0xffff;
  const is = draw < admission;
  return { is, why: `${name} admits ${admission} of ${ADMISSION_MAX}; this slot draws ${draw}: ${is ? "yes" : "no"}` };
}

function keyOf(config: Config, service: Service, destination: Destination): string {
  const pool = config.pools.find((each) => each.name === destination.pool);
  const backend = pool?.backends.find((each) => each.name === destination.backend);
  return backend === undefined ? "" : ringKey(backend, service.config);
}

/** The draws up to the one that found the lender, as lending makes them. */
function lendingSteps(
  table: ForwardingTable, config: Config, service: Service, slot: number, chosen: Destination | null,
): ExplainStep[] {
  if (chosen === null) return [{ step: "lending", detail: "nobody is alive and admits new flows" }];
  const steps: ExplainStep[] = [];
  const { configured, size } = service.ring;
  for (let k = 1; k <= LENDING_DRAWS_MAX; k++) {
    const drawn = lendingDraw(slot, k) % size;
    const lender = table.destinations.get(configured[drawn] ?? 0);
    if (lender === undefined) break;
    const { is, why } = eligibility(config, service, slot, lender);
    if (is || steps.length < CHAIN_TOLD_MAX) {
      steps.push({ step: `lending ${k}`, detail: `draws slot ${drawn}: ${why}` });
    }
    if (is) return steps;
  }
  steps.push({
    step: "lending",
    detail: `no draw found a lender; of those that admit flows, ${chosen.name} wins the slot by weight`,
  });
  return steps;
}

function finalStep(service: Service, chosen: Destination | null): ExplainStep {
  if (chosen === null) {
    return { step: "verdict", detail: `DROP_NO_BACKEND: no backend of ${service.name} can take flows` };
  }
  const where = formatEndpoint(chosen.address, chosen.port);
  return { step: "verdict", detail: `TX_FORWARDED to ${chosen.name} at ${where} by ${chosen.forwarding}` };
}

function hex(hash: number): string {
  return hash.toString(16).padStart(8, "0");
}
