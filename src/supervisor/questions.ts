// Answers to explain and ring, live and offline alike: from what people type to what the model computes,
// with a failure that names the choices when a name fits nothing. Knows names; must never know where the
// intent came from.

import type { Explanation, ExplainRequest, RingReport, RingRequest } from "../api/schemas_questions.ts";
import { Failure } from "../errors.ts";
import type { Address } from "../model/address.ts";
import { formatEndpoint, parseEndpoint } from "../model/address.ts";
import { explain } from "../model/explain.ts";
import { hexBytes } from "../model/hex.ts";
import { ringReport } from "../model/ring_report.ts";
import type { Config, ServiceConfig } from "../model/config.ts";
import {
  formatNetwork, formatServiceAddress, holdsAddress, holdsPort, PROTOCOL_NUMBERS,
} from "../model/service_address.ts";
import { usesPool } from "../model/split.ts";
import { serviceOf } from "../model/service_lookup.ts";
import type { ForwardingTable, Intent, Service } from "../model/table.ts";

/** Throws UNKNOWN_SERVICE, and REQUEST_INVALID for a client that is none or of the other family. */
export function answerExplain(
  table: ForwardingTable, config: Config, request: ExplainRequest, nowNs = 0n,
): Explanation {
  const named = table.services.find((each) => each.name === request.service);
  // Whose region a client is in is part of the answer.
  const asked = named?.config.region?.service ?? named?.name;
  const service = table.services.find(({ name }) => name === asked);
  if (service === undefined) throw unknownService(request.service, config.services);
  const client = parseEndpoint(request.client);
  if (client === null) {
    throw new Failure("REQUEST_INVALID", { path: "client" },
      `${request.client} is no client: write address:port, or [address]:port for IPv6`);
  }
  const { network } = service.config;
  if (client.address.family !== network.address.family) {
    throw new Failure("REQUEST_INVALID", { path: "client" },
      `${request.client} is IPv${client.address.family}, and ${service.name} has the`
      + ` IPv${network.address.family} address ${formatNetwork(network)}`);
  }
  const { connectionId } = request;
  const cid = connectionId === undefined ? null : hexBytes(connectionId);
  return explain(table, config, service, client, askedPlace(table, service, request.to ?? null), cid, nowNs);
}

/**
 * The address and port that the client asks for: of a service that has several, the first of each
 * unless the request names others.
 */
function askedPlace(
  table: ForwardingTable, { name, config }: Service, text: string | null,
): { address: Address; port: number } {
  const { network, ports, protocol } = config;
  const to = text === null
    ? { address: network.address, port: Math.max(1, ports.from) } : parseEndpoint(text);
  const has = formatServiceAddress(config);
  const refuse = (reason: string): Failure => new Failure("REQUEST_INVALID", { path: "to" }, reason);
  if (to === null) throw refuse(`${text} is no address:port, or [address]:port for IPv6`);
  const endpoint = formatEndpoint(to.address, to.port);
  if (!holdsAddress(network, to.address.bytes) || !holdsPort(ports, to.port)) {
    throw refuse(`${endpoint} is not part of ${name}, which is ${has}`);
  }
  const owner = serviceOf(table, to.address.bytes, to.port, PROTOCOL_NUMBERS[protocol]);
  if (owner !== null && owner.name !== name) {
    throw refuse(`${endpoint} belongs to ${owner.name}, which is more specific than ${name} (${has});`
      + (text === null ? " name an address and port of it with --to" : " ask for that service"));
  }
  return to;
}

/** Throws UNKNOWN_SERVICE or UNKNOWN_BACKEND. Bare names mean backends of the service's own pools. */
export function answerRing(intent: Intent, request: RingRequest): RingReport {
  const { services, pools } = intent.config;
  const service = services.find((each) => each.name === request.service);
  if (service === undefined) throw unknownService(request.service, services);
  const own = pools.filter((each) => usesPool(service, each.name));
  const names = backendNames({ ...intent.config, pools: own });
  const named = (texts: readonly string[]): string[] => texts.map((text) => resolveName(text, names));
  const report = ringReport(intent, service.name, named(request.down), named(request.remove));
  if (report === null) throw unknownService(request.service, services);
  return report;
}

/** "pool/backend" of every backend, in the order of the file. */
export function backendNames(config: Config): string[] {
  return config.pools.flatMap((pool) => pool.backends.map((each) => `${pool.name}/${each.name}`));
}

/** A "pool/backend", or a bare name that is unique, to the former. Throws UNKNOWN_BACKEND. */
export function resolveName(text: string, names: readonly string[]): string {
  if (names.includes(text)) return text;
  const candidates = names.filter((name) => name.slice(name.indexOf("/") + 1) === text);
  if (candidates.length === 1) return candidates[0]!;
  const message = candidates.length > 1
    ? `${text} is a backend of several pools: ${candidates.join(", ")}`
    : `there is no backend ${text}; ${someOf(names, "there are", "there are none")}`;
  throw new Failure("UNKNOWN_BACKEND", { name: text, candidates: candidates.slice(0, 20) }, message);
}

function unknownService(name: string, services: readonly ServiceConfig[]): Failure {
  const known = someOf(services.map((each) => each.name), "there are", "there are none");
  return new Failure("UNKNOWN_SERVICE", { name }, `there is no service ${name}; ${known}`);
}

function someOf(names: readonly string[], some: string, none: string): string {
  if (names.length === 0) return none;
  const shown = names.slice(0, 10).join(", ");
  return `${some} ${shown}${names.length > 10 ? ` and ${names.length - 10} more` : ""}`;
}
