// explain: which backend a client meets at a service, and each step of the reason. The same functions
// that decide, with words between them. Pure; knows a table and the config it came from.

import type { Address } from "./address.ts";
import { formatEndpoint } from "./address.ts";
import { ringKey } from "./compile.ts";
import type { Config } from "./config.ts";
import type { Packet, State } from "./decide.ts";
import { decide } from "./decide.ts";
import { slotFor } from "./slot.ts";
import { LENDING_DRAWS_MAX, lendingDraw } from "./lending.ts";
import { translates } from "./nat.ts";
import { namesOf, secondChanceSteps, stateSteps } from "./explain_states.ts";
import { regionSteps } from "./explain_geo.ts";
import { ringFor, splitSteps } from "./explain_split.ts";
import { connectionIdSteps, shortHeader } from "./explain_quic.ts";
import { keyWord } from "./permutation.ts";
import { isSteered, type PickAlgorithm } from "./pick.ts";
import { formatServiceAddress, isExact, PROTOCOL_NUMBERS } from "./service_address.ts";
import { serviceFor } from "./service_lookup.ts";
import type { SlotChoice } from "./split.ts";
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
  /** "pool/backend" of those that its packets name for the second chance, in the order in which they are asked. */
  readonly alternates: string[];
  readonly steps: ExplainStep[];
}

export interface Client {
  readonly address: Address;
  readonly port: number;
}

const PICKED_BY: Readonly<Record<PickAlgorithm, string>> = {
  "round-robin": "gives each new flow to the next backend in turn",
  "random": "gives each new flow to a backend by chance",
  "least-connections": "gives each new flow to the backend with the fewest for its weight",
  "power-of-two": "gives each new flow to the one of two random backends that has fewer for its weight",
  "least-response-time": "gives each new flow to the one of two random backends that answers sooner, for the flows that it has",
  "bounded-load": "gives a new flow to its slot's backend, or where that has its bound to the next by lending",
};

/** Steps of a lending chain that are told one by one. */
const CHAIN_TOLD_MAX = 8;

/** A new flow, with every next hop resolved and the supervisor alive. */
const NEW_FLOW: Omit<State, "nowNs"> = { flow: null, heartbeatNs: null, neighbour: () => true };

/**
 * What becomes of a new flow. One that the flow table knows stays where it is while its backend is alive.
 * `to` is an address and port of this service, and of no more specific one. With a connection ID: of a QUIC
 * packet that carries it in a short header. `nowNs` (CLOCK_MONOTONIC) says which windows are open still.
 */
export function explain(
  table: ForwardingTable, config: Config, asked: Service, client: Client, to: Client,
  cid: Uint8Array | null = null, nowNs = 0n,
): ExplainedFlow {
  const service = serviceFor(table, asked, client.address.bytes);
  const first = firstPacket(asked, client, to);
  const packet = cid === null ? first : { ...first, datagram: shortHeader(cid) };
  const state = { ...NEW_FLOW, nowNs };
  const decision = decide(table, state, packet);
  const { hash, slot } = slotFor(service, packet);
  const choice = ringFor(service, slot);
  const owner = table.destinations.get(choice.ring.configured[slot] ?? 0) ?? null;
  const chosen = decision.destination;
  const steps: ExplainStep[] = [serviceStep(asked, to), ...policySteps(asked, client, decision.verdict)];
  if (decision.verdict !== "DROP_DENIED") steps.push(...regionSteps(asked, service, client.address));
  if (cid !== null) steps.push(...connectionIdSteps(service, cid, chosen, decision.quic ?? null));
  if (decision.how !== null && decision.how.by !== "connection-id") {
    const { size } = service.ring;
    steps.push(
      ...affinitySteps(service, client),
      ...pickSteps(service),
      { step: "hash input", detail: hashInput(service, client, to) },
      { step: "hash", detail: `HalfSipHash-1-3 with the instance's seed: 0x${hex(hash)}` },
      { step: "slot", detail: `${slot} of ${size} (hash × ${size} ÷ 2^32)` },
      ...splitSteps(service, slot),
      ...ownerSteps(config, service, choice, slot, owner),
    );
    if (owner !== null && owner.id !== chosen?.id) {
      steps.push(...lendingSteps(table, config, service, choice, slot, chosen));
    }
    steps.push(...stateSteps(table, service, packet, slot, nowNs));
    if (chosen !== null) steps.push(...secondChanceSteps(table, state, packet, decision));
  }
  // Where flows are placed one by one, the slot's backend is not the answer; a connection ID is.
  const placed = service.picking === null || decision.how?.by === "connection-id" ? chosen : null;
  const where = placed === null ? null : formatEndpoint(placed.address, placed.port ?? to.port);
  steps.push(finalStep(service, decision.verdict, placed, where));
  return {
    service: service.name,
    client: formatEndpoint(client.address, client.port),
    verdict: decision.verdict,
    backend: placed?.name ?? null,
    destination: where,
    forwarding: service.config.forwarding,
    hash,
    slot,
    configuredOwner: table.destinations.get(service.ring.configured[slot] ?? 0)?.name ?? null,
    alternates: [...namesOf(table, decision)],
    steps,
  };
}

/** A SYN, or a datagram. */
function firstPacket({ config }: Service, client: Client, to: Client): Packet {
  return {
    kind: "flow",
    family: to.address.family,
    source: client.address.bytes,
    destination: to.address.bytes,
    protocol: PROTOCOL_NUMBERS[config.protocol],
    sourcePort: client.port,
    destinationPort: to.port,
    syn: config.protocol === "tcp",
    ack: false,
    fin: false,
    rst: false,
    tellable: false,
    ttl: 64,
  };
}

function serviceStep({ name, config }: Service, to: Client): ExplainStep {
  const { protocol, forwarding } = config;
  const asked = isExact(config) ? "" : ` for ${formatEndpoint(to.address, to.port)}`;
  return {
    step: "service", detail: `${name} is ${protocol} ${formatServiceAddress(config)}, forwarding ${forwarding}${asked}`,
  };
}

function policySteps(service: Service, client: Client, verdict: string): ExplainStep[] {
  const { allow, deny } = service.config.policy;
  if (allow.length === 0 && deny.length === 0) return [];
  const texts = (prefixes: typeof allow): string => prefixes.map((each) => each.text).join(", ") || "nothing";
  const outcome = verdict === "DROP_DENIED" ? "is denied" : "is admitted";
  return [{
    step: "policy",
    detail: `${client.address.text} ${outcome}: the longest prefix decides (allow ${texts(allow)}; deny ${texts(deny)})`,
  }];
}

/** Who is remembered is not known here. */
function affinitySteps({ affinity, config: { sourcePrefix } }: Service, { address: { family } }: Client): ExplainStep[] {
  if (affinity === null) return [];
  const bits = family === 4 ? sourcePrefix.ipv4 : sourcePrefix.ipv6;
  const who = bits === (family === 4 ? 32 : 128) ? "the client" : `whoever shares the first ${bits} bits of its address`;
  return [{
    step: "affinity", detail: `while ${who} is remembered (affinityTimeout ${affinity.timeoutMs / 1000} s), its flows go where it has `
      + "been; what follows is of a client that is not",
  }];
}

/** What is told below is of packets whose flow nobody knows and that begin none, unless the ring places all flows. */
function pickSteps({ picking, config: { algorithm, forwarding } }: Service): ExplainStep[] {
  const steering = translates(forwarding) ? "probes and clients' handshakes take" : "probes take";
  if (picking === null && isSteered(algorithm, "xdp"))
    return [{ step: "algorithm", detail: `${algorithm} goes by the ring in this plane, and how long ${steering} steers its shares` }];
  if (picking === null) return [];
  return [{
    step: "algorithm", detail: `${picking.by} ${PICKED_BY[picking.by]}, and the flow table keeps it there; the slot below is `
      + "for packets of flows that the table does not know",
  }];
}

function hashInput(service: Service, client: Client, to: Client): string {
  const { protocol, hash, sourcePrefix } = service.config;
  if (hash === "source-ip") {
    const bits = client.address.family === 4 ? sourcePrefix.ipv4 : sourcePrefix.ipv6;
    return `source-ip: the first ${bits} bits of ${client.address.text}`;
  }
  const from = formatEndpoint(client.address, client.port);
  return `5-tuple: ${from} to ${formatEndpoint(to.address, to.port)}, protocol ${PROTOCOL_NUMBERS[protocol]} (${protocol})`;
}

function ownerSteps(
  config: Config, service: Service, choice: SlotChoice, slot: number, owner: Destination | null,
): ExplainStep[] {
  if (owner === null) {
    return [{ step: "configured owner", detail: "nobody: no backend has a positive weight" }];
  }
  return [
    { step: "configured owner", detail: `${owner.name} (weight ${owner.weight})` },
    { step: "eligible", detail: eligibility(config, service, choice, slot, owner).why },
  ];
}

/** Why a destination may or may not take new flows of a slot: lending's rule in words. */
function eligibility(
  config: Config, service: Service, { failedOpen, ring }: SlotChoice, slot: number, destination: Destination,
): { readonly is: boolean; readonly why: string } {
  const { name, admission, alive, resets, stateProvenance } = destination;
  // Everybody is eligible then but those that an operator drains, who then have no slot at all.
  if (failedOpen && ring.slots.includes(destination.id)) {
    return { is: true, why: `${name} is taken as eligible: too few backends are up (failOpen, panicBelow)` };
  }
  const by = stateProvenance.source === "override" ? ` by ${stateProvenance.actor}` : "";
  if (resets) return { is: false, why: `${name} is taken out${by}` };
  if (!alive) {
    const reason = stateProvenance.source === "health" ? ` (${stateProvenance.reason})` : "";
    return { is: false, why: `${name} is down${reason}` };
  }
  if (admission === 0) {
    return { is: false, why: stateProvenance.source === "pool" ? `${name} is ${stateProvenance.reason}` : `${name} is drained${by}` };
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
  table: ForwardingTable, config: Config, service: Service, choice: SlotChoice, slot: number, chosen: Destination | null,
): ExplainStep[] {
  if (chosen === null) return [{ step: "lending", detail: "nobody is alive and admits new flows" }];
  // Who has no weight is nobody's lender.
  if (chosen.weight === 0) return [{ step: "sorry", detail: `no backend can take flows, and ${chosen.name} says sorry` }];
  const steps: ExplainStep[] = [];
  const { configured, size } = choice.ring;
  for (let k = 1; k <= LENDING_DRAWS_MAX; k++) {
    const drawn = lendingDraw(slot, k) % size;
    const lender = table.destinations.get(configured[drawn] ?? 0);
    if (lender === undefined) break;
    const { is, why } = eligibility(config, service, choice, slot, lender);
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

function finalStep(
  service: Service, verdict: string, chosen: Destination | null, where: string | null,
): ExplainStep {
  if (chosen !== null) {
    return { step: "verdict", detail: `${verdict} to ${chosen.name} at ${where ?? ""} by ${chosen.forwarding}` };
  }
  if (verdict === "TX_FORWARDED" && service.picking !== null)
    return { step: "verdict", detail: `${verdict} to whoever ${service.picking.by} gives it to` };
  const why = verdict === "DROP_NO_BACKEND" ? `no backend of ${service.name} can take flows` : "see above";
  return { step: "verdict", detail: `${verdict}: ${why}` };
}

function hex(hash: number): string {
  return hash.toString(16).padStart(8, "0");
}
