// Cross-field rules about probes: whether each service of a pool that is probed `via: tunnel` has a way that
// a probe can go, and an address and port to ask for, where probes come from, and what they say. Each rule is
// a function of the draft. The proxy plane ignores `via`, which is the feature table's business.

import { parseAddress } from "../model/address.ts";
import { translates } from "../model/nat.ts";
import { formatNetwork, formatPorts, singleAddress, singlePort } from "../model/service_address.ts";
import { recordOf } from "./draft.ts";
import type { Draft, DraftPool, DraftService } from "./draft.ts";
import { checkHeaderName, checkVariableName, isSecretHeader } from "./formats_health.ts";
import type { Finding } from "./problem.ts";
import { error, serviceName, warning } from "./rules_names.ts";
import type { Rule } from "./rules_names.ts";

const ELSE_DIRECT = "or give it a pool of its own, with via: direct";

function* probesThroughTunnels(draft: Draft): Iterable<Finding> {
  if (draft.dataplane.mode === "proxy") return;
  for (const pool of draft.pools) {
    const timing = pool.health?.timing;
    if (!connects(pool) || timing?.via !== "tunnel") continue;
    const place = [...pool.path, "health", "via"];
    const users = usersOf(draft, pool);
    // Where none has a single port, the rule about all probes complains.
    const needsPort = timing.port === null && users.some(hasPort);
    for (const service of users) {
      const [reason, hint] = whyNot(service, needsPort) ?? [];
      if (reason !== undefined && hint !== undefined) yield error(place, reason, hint);
    }
  }
}

/** Kinds that open a connection, which alone the plane can lead. */
const CONNECTING: ReadonlySet<unknown> = new Set([
  "tcp", "tls", "http", "grpc", "redis", "postgres", "mysql", "smtp",
]);
const OTHERS: ReadonlySet<unknown> = new Set(["udp", "dns", "icmp", "exec"]);

function connects({ health }: DraftPool): boolean {
  return CONNECTING.has(health?.type);
}

function* kindsWithoutTunnel(draft: Draft): Iterable<Finding> {
  if (draft.dataplane.mode === "proxy") return;
  for (const { path, health } of draft.pools) {
    if (!OTHERS.has(health?.type) || health?.timing.via !== "tunnel") continue;
    yield error([...path, "health", "via"], `probes of type ${String(health.type)} do not travel as clients' packets do`,
      "say via: direct, or probe by tcp or what goes over it");
  }
}

/** The plane's own sockets have the address that answers come back to. */
function* sources(draft: Draft): Iterable<Finding> {
  for (const pool of draft.pools) {
    const { source, via } = pool.health?.timing ?? {};
    const address = parseAddress(source ?? "");
    if (address === null || (!connects(pool) && !OTHERS.has(pool.health?.type))) continue;
    const place = [...pool.path, "health", "source"];
    if (via === "tunnel" && connects(pool)) {
      yield error(place, "probes via: tunnel come from the address that clients' packets leave this host with",
        "remove source, or say via: direct");
      continue;
    }
    const others = pool.backends?.filter((each) => each.address !== null && each.address.family !== address.family) ?? [];
    const [first] = others;
    if (first === undefined) continue;
    const who = `${first.fields.name ?? "a backend"}${others.length > 1 ? ` and ${others.length - 1} more` : ""}`;
    yield warning(place, `${who} of the other IP version: probes come from the address that the kernel chooses`,
      "give them a pool of their own to choose it");
  }
}

function* headerNames(draft: Draft): Iterable<Finding> {
  for (const { path, health } of draft.pools) {
    const seen = new Set<string>();
    for (const [name, value] of Object.entries(recordOf(health?.keys["headers"]))) {
      const place = [...path, "health", "headers", name];
      if (isSecretHeader(name) && typeof value === "string" && !value.startsWith("file:")) {
        yield warning(place, `what ${name} says stands here, and in \`config show\`, for everybody to read`,
          "put it in a file: file:/etc/pointsman/token");
      }
      const complaint = checkHeaderName(name) ?? (seen.has(name.toLowerCase())
        ? { reason: `${name} is there twice`, hint: "names are compared without regard to case" } : null);
      seen.add(name.toLowerCase());
      if (complaint === null) continue;
      yield { ...error(place, complaint.reason, complaint.hint), at: "key" };
    }
  }
}

function* commands(draft: Draft): Iterable<Finding> {
  for (const { path, health } of draft.pools) {
    if (health?.type === "icmp" && health.timing.port !== undefined && health.timing.port !== null) {
      yield error([...path, "health", "port"], "an echo request has no port", "remove it, or probe by tcp or udp");
    }
    if (health?.type !== "exec") continue;
    if ((health.timing.source ?? null) !== null) {
      yield error([...path, "health", "source"], "a command chooses where its connections come from",
        "give it as an argument");
    }
    for (const name of Object.keys(recordOf(health.keys["environment"]))) {
      const complaint = checkVariableName(name);
      if (complaint === null) continue;
      yield { ...error([...path, "health", "environment", name], complaint.reason, complaint.hint), at: "key" };
    }
  }
}

function* usersWithoutPassword(draft: Draft): Iterable<Finding> {
  for (const { path, health } of draft.pools) {
    const { username, password } = health?.keys ?? {};
    if (health?.type !== "redis" || typeof username !== "string" || (password ?? null) !== null) continue;
    yield error([...path, "health", "username"], "a user without a password does not log in",
      "name the file of the password, or remove username");
  }
}

function usersOf(draft: Draft, pool: DraftPool): readonly DraftService[] {
  return draft.services.filter((service) => service.pools.includes(pool));
}

function hasPort({ ports }: DraftService): boolean {
  return ports !== null && singlePort(ports) !== null;
}

function whyNot(service: DraftService, needsPort: boolean): [reason: string, hint: string] | null {
  const { network, ports, fields } = service;
  const who = serviceName(service);
  if (translates(fields.forwarding)) {
    return [`${who} uses ${fields.forwarding}, whose packets reach backends at their own address`,
      "say via: direct, which asks for the same"];
  }
  if (network !== null && singleAddress(network) === null) {
    return [`${who} has the prefix ${formatNetwork(network)}, and a probe needs one address`,
      `say via: direct, ${ELSE_DIRECT}`];
  }
  if (needsPort && ports !== null && !hasPort(service)) {
    return [`${who} has port ${formatPorts(ports)}, and a probe tries one`,
      "name it, such as port: 8000 beside via"];
  }
  const assign = fields.vip?.assign ?? "none";
  if (assign === "none") return null;
  return [`${who} has vip.assign: ${assign}, and from a host that has the address itself no`
    + " connection to it leaves",
    `say vip.assign: none and route the address to this host, ${ELSE_DIRECT}`];
}

export const PROBE_RULES: readonly Rule[] = [
  probesThroughTunnels, kindsWithoutTunnel, sources, headerNames, usersWithoutPassword, commands,
];
