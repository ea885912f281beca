// Cross-field rules about probes `via: tunnel`: whether each service of such a pool has a way that a
// probe can go, and an address and port to ask for. Each rule is a function of the draft. The proxy
// plane ignores the key, which is the feature table's business.

import { translates } from "../model/nat.ts";
import { formatNetwork, formatPorts, singleAddress, singlePort } from "../model/service_address.ts";
import type { Draft, DraftPool, DraftService } from "./draft.ts";
import type { Finding } from "./problem.ts";
import { error, serviceName } from "./rules_names.ts";
import type { Rule } from "./rules_names.ts";

const ELSE_DIRECT = "or give it a pool of its own, with via: direct";

function* probesThroughTunnels(draft: Draft): Iterable<Finding> {
  if (draft.dataplane.mode === "proxy") return;
  for (const pool of draft.pools) {
    const timing = pool.health?.timing;
    const isProbed = pool.health?.type === "tcp" || pool.health?.type === "http";
    if (!isProbed || timing?.via !== "tunnel") continue;
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

function usersOf(draft: Draft, pool: DraftPool): readonly DraftService[] {
  return draft.services.filter((service) => service.pool === pool);
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

export const PROBE_RULES: readonly Rule[] = [probesThroughTunnels];
