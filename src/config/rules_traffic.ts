// Cross-field rules about where packets go: backends and weights, forwarding, rings, policies,
// probes. Each rule is a function of the draft. Must never know which plane will run.

import type { Address } from "../model/address.ts";
import { translates } from "../model/nat.ts";
import { comparesLoads, isPickAlgorithm, isXdpPick } from "../model/pick.ts";
import { isPrime } from "../model/ring.ts";
import { formatPorts, singlePort } from "../model/service_address.ts";
import type { Draft, DraftService } from "./draft.ts";
import { checkPrefix, formatDuration, readDuration, readPrefix } from "./formats.ts";
import { valueAt } from "./explain.ts";
import { pathText } from "./problem.ts";
import type { Finding, Path } from "./problem.ts";
import { error, poolUses, serviceName, warning } from "./rules_names.ts";
import type { Rule } from "./rules_names.ts";

/** These keep the destination port of the packet. */
const KEEPS_PORT = new Set(["l2", "ipip", "gue", "gre"]);

function* noServices(draft: Draft): Iterable<Finding> {
  const services = (draft.root as { services?: unknown } | null | undefined)?.services;
  if (!Array.isArray(services) || services.length > 0) return;
  yield warning(["services"], "there are no services", "nothing will be balanced");
}

function* noBackends(draft: Draft): Iterable<Finding> {
  for (const pool of draft.pools) {
    if (pool.backends?.length !== 0) continue;
    yield error([...pool.path, "backends"], "the pool has no backends",
      "to take backends out for a while, give them weight 0 or drain them");
  }
}

function* noWeight(draft: Draft): Iterable<Finding> {
  for (const pool of draft.pools) {
    if (pool.backends === null || pool.backends.length === 0) continue;
    if (!pool.backends.every(({ fields }) => fields.weight === 0)) continue;
    yield error([
      ...pool.path, "backends",
    ], "every backend has weight 0", "one of them needs a positive weight");
  }
}

/** Below half a slot, quotas by largest remainder may leave a backend without any. */
function* slotless(draft: Draft): Iterable<Finding> {
  for (const [pool, service] of poolUses(draft)) {
    const ringSize = service?.fields.ringSize;
    const weights = (pool.backends ?? []).map(({ fields }) => (fields.name === pool.rules.sorry ? 0 : fields.weight ?? 0));
    const sum = weights.reduce((total, weight) => total + weight, 0);
    if (ringSize === undefined || sum === 0) continue;
    for (const [index, weight] of weights.entries()) {
      if (weight === 0 || (weight / sum) * ringSize >= 0.5) continue;
      yield warning([...pool.path, "backends", index, "weight"],
        `weight ${weight} of ${sum} is less than half a slot of ${ringSize}; it may get none`,
        "raise it, or the ringSize");
    }
  }
}

function* mappedPorts(draft: Draft): Iterable<Finding> {
  for (const [pool, service] of poolUses(draft)) {
    const forwarding = service?.fields.forwarding;
    if (service === null || forwarding === undefined || service.ports === null) continue;
    const { ports } = service;
    if (!KEEPS_PORT.has(forwarding)) continue;
    for (const { path, fields } of pool.backends ?? []) {
      if (fields.port === undefined || fields.port === null) continue;
      if (fields.port === singlePort(ports)) continue;
      yield error([...path, "port"],
        `${serviceName(service)} has port ${formatPorts(ports)}, and ${forwarding} cannot change it to `
        + `${fields.port}`,
        "remove the port, or use nat or fullnat");
    }
  }
}

function* families(draft: Draft): Iterable<Finding> {
  for (const [pool, service] of poolUses(draft)) {
    const virtual = service?.network?.address ?? null;
    if (service === null || virtual === null || service.fields.forwarding !== "nat") continue;
    for (const { path, address } of pool.backends ?? []) {
      if (address === null || address.family === virtual.family) continue;
      yield error([...path, "address"],
        `${serviceName(service)} is IPv${virtual.family}, and nat cannot change the family to `
        + `IPv${address.family}`,
        "use fullnat or ipip");
    }
  }
}

function* ringSizes(draft: Draft): Iterable<Finding> {
  for (const { path, fields } of draft.services) {
    const size = fields.ringSize;
    if (size === undefined || isPrime(size)) continue;
    let below = size - 1;
    let above = size + 1;
    while (!isPrime(below)) below -= 1;
    while (!isPrime(above)) above += 1;
    yield error(
      [...path, "ringSize"], `${size} is not a prime`, `the nearest are ${below} and ${above}`,
    );
  }
}

function* affinityGroups(draft: Draft): Iterable<Finding> {
  const first = new Map<string, DraftService>();
  for (const service of draft.services) {
    const group = service.fields.affinityGroup;
    if (typeof group !== "string") continue;
    const lead = first.get(group);
    if (lead === undefined) first.set(group, service);
    const reason = (lead === undefined ? null : groupMismatch(service, lead));
    if (reason !== null) {
      yield warning(
        [...service.path, "affinityGroup"], reason, "clients may meet different hosts on its ports",
      );
    }
    if (service.fields.hash === "5-tuple") {
      yield warning([
        ...service.path, "affinityGroup",
      ], "the group has no effect with hash: 5-tuple",
        "ports are part of it; use hash: source-ip");
    }
  }
}

/** Pools, and what each has of the traffic, or whose. */
function placesOf({ pools, fields: { split, geo } }: DraftService): string {
  return JSON.stringify([pools.map(({ name, path }, at) => [name, path, split?.[at]?.percent]), geo]);
}

function groupMismatch(service: DraftService, lead: DraftService): string | null {
  const leader = serviceName(lead);
  const [mine, theirs] = [service.fields, lead.fields];
  if (!service.lacksPool && !lead.lacksPool && placesOf(service) !== placesOf(lead)) {
    const what = mine.split !== undefined ? "the split" : mine.geo !== undefined ? "the geo" : "the pool";
    return `${what} is not that of ${leader} in the same group`;
  }
  if (mine.ringSize !== theirs.ringSize) {
    return `the ringSize is not that of ${leader} in the same group`;
  }
  if (JSON.stringify(mine.sourcePrefix) !== JSON.stringify(theirs.sourcePrefix)) {
    return `the sourcePrefix is not that of ${leader} in the same group`;
  }
  return null;
}

function* policies(draft: Draft): Iterable<Finding> {
  for (const { path, network } of draft.services) {
    const virtual = network?.address ?? null;
    const seen = new Map<string, string>();
    for (const list of ["allow", "deny"] as const) {
      const texts = valueAt(draft.root, [...path, "policy", list]);
      for (const [index, text] of (Array.isArray(texts) ? texts : []).entries()) {
        const place = [...path, "policy", list, index];
        if (typeof text !== "string" || checkPrefix(text) !== null) continue;
        const prefix = readPrefix(text);
        const before = seen.get(prefix.text);
        seen.set(prefix.text, before ?? list);
        if (before === list) yield warning(place, `${prefix.text} is in the list already`);
        else if (before !== undefined) yield error(
          place, `${prefix.text} is both allowed and denied`, "remove one of them",
        );
        if (virtual !== null) yield* foreignPrefix(virtual, prefix.address, place);
      }
    }
  }
}

function* foreignPrefix(
  virtual: Address, prefix: Address, place: Finding["path"],
): Iterable<Finding> {
  if (virtual.family === prefix.family) return;
  yield warning(
    place, `an IPv${prefix.family} prefix matches no client of an IPv${virtual.family} service`,
  );
}

function* probes(draft: Draft): Iterable<Finding> {
  for (const pool of draft.pools) {
    const { agent, ...timing } = pool.health?.timing ?? {};
    const place = [...pool.path, "health"];
    yield* longTimeouts(place, timing);
    yield* longTimeouts([...place, "agent"], agent ?? {});
    yield* slowDoubt(place, timing);
  }
}

function* longTimeouts(
  place: Path, { interval, timeout }: { readonly interval?: string; readonly timeout?: string | undefined },
): Iterable<Finding> {
  if (interval === undefined || timeout === undefined) return;
  const intervalMs = readDuration(interval);
  const timeoutMs = readDuration(timeout);
  if (timeoutMs <= intervalMs) return;
  yield error([...place, "timeout"],
    `the timeout ${formatDuration(timeoutMs)} is longer than the interval ${formatDuration(intervalMs)}`,
    "one probe ends before the next starts");
}

function* slowDoubt(
  place: Path, { interval, fastInterval }: { readonly interval?: string; readonly fastInterval?: string | null },
): Iterable<Finding> {
  if (interval === undefined || fastInterval === undefined || fastInterval === null) return;
  if (readDuration(fastInterval) <= readDuration(interval)) return;
  yield warning([...place, "fastInterval"], `${fastInterval} is longer than interval, and a doubt lasts the longer for it`,
    "make it shorter");
}

/**
 * The default probes by TCP; most UDP servers do not listen there, and every backend would be down.
 */
function* unprobedUdp(draft: Draft): Iterable<Finding> {
  for (const [pool, service] of poolUses(draft)) {
    if (service?.fields.protocol !== "udp" || pool.health !== undefined) continue;
    const reason =
      `without a health check, the backends of ${pathText(pool.path)} are probed by TCP`;
    yield warning(
      [...service.path, "protocol"], reason, "say health: { type: tcp }, or none, or another one",
    );
  }
}

function* segments(draft: Draft): Iterable<Finding> {
  for (const { path, fields } of draft.services) {
    if (fields.protocol !== "udp" || fields.mssMax === undefined || fields.mssMax === null) continue;
    yield error([...path, "mssMax"], "a udp service has no segments", "remove it");
  }
}

/** Of UDP nothing tells an old flow from a new one; of TCP what is forgotten must not be missed. */
function* windows(draft: Draft): Iterable<Finding> {
  for (const { path, fields: { protocol, changeWindow, flowIdle = protocol === "udp" ? "60s" : "15m" } } of draft.services) {
    if (changeWindow === undefined) continue;
    const isLonger = readDuration(changeWindow) > readDuration(flowIdle);
    if (protocol !== "udp" && isLonger) {
      yield warning([...path, "changeWindow"],
        `${changeWindow} is longer than flowIdle, and counts as ${flowIdle}`,
        "what is remembered in a window must last as long: raise flowIdle");
    }
    if (protocol !== "udp" || isLonger || changeWindow === flowIdle) continue;
    yield warning([...path, "changeWindow"],
      `${changeWindow} is shorter than flowIdle, and counts as ${flowIdle}`,
      "with udp, flows from before a change are told by having been silent for flowIdle");
  }
}

/** Only the headers of gue and gre have room for names, and only of TCP does a backend know what it has. */
function* secondChances(draft: Draft): Iterable<Finding> {
  for (const { path, fields, pools } of draft.services) {
    if (fields.secondChance !== true) continue;
    const { forwarding, protocol, tracking } = fields;
    const place = [...path, "secondChance"];
    const backends = pools.flatMap((pool) => pool.backends ?? []);
    const ipv6 = backends.filter(({ address }) => address?.family === 6).length;
    if (forwarding !== undefined && forwarding !== "gue" && forwarding !== "gre")
      yield error(place, `${forwarding} has no room for the names of other backends`, "use gue, or gre with IPv4 backends");
    if (forwarding === "gue" && fields.gue?.variant === 1)
      yield error(place, "variant 1 of gue has no room for the names of other backends", "use variant 0");
    if (forwarding === "gre" && ipv6 > 0)
      yield error(place, "a GRE key has room for an IPv4 address, and there are backends with IPv6", "use gue");
    if (protocol === "udp")
      yield error(place, "no backend can tell whose a datagram is", "it is for tcp");
    if (tracking === "none")
      yield error(place, "with tracking none, nobody knows who had a flow before", "use tracking: minimal");
    if (forwarding === "gue" && ipv6 > 0 && ipv6 < backends.length)
      yield warning(place, "a packet names backends of one IP version: those with the version of the one that it goes to");
  }
}

/** Where each flow is placed for itself, nothing but memory tells where it is. */
function* pickedFlows(draft: Draft): Iterable<Finding> {
  for (const { path, fields } of draft.services) {
    const { algorithm, tracking, forwarding } = fields;
    if (algorithm !== undefined && algorithm !== "bounded-load" && fields.loadFactor !== undefined && fields.loadFactor !== 1.25)
      yield warning([...path, "loadFactor"], `${algorithm} looks at no load factor`, "it is for algorithm: bounded-load");
    if (algorithm === undefined || !isPickAlgorithm(algorithm)) continue;
    if (draft.dataplane.mode !== "proxy" && comparesLoads(algorithm) && isXdpPick(algorithm)
      && !(forwarding !== undefined && translates(forwarding)))
      yield warning([...path, "algorithm"],
        `with ${forwarding ?? "this forwarding"} the XDP plane sees only what clients send, and how many `
        + "flows a backend has is known roughly: from the SYN to its client's FIN or RST, or until flowIdle is over",
      "use nat or fullnat where that is not good enough");
    if (fields.secondChance === true)
      yield error([...path, "secondChance"], `with ${algorithm} the owners of its slot say nothing of a flow`, "use algorithm: maglev");
    const looksAtHash = algorithm === "bounded-load" || (draft.dataplane.mode === "xdp" && !isXdpPick(algorithm));
    if (!looksAtHash && (fields.hash === "source-ip" || (fields.affinityGroup ?? null) !== null))
      yield warning([...path, fields.hash === "source-ip" ? "hash" : "affinityGroup"],
        `${algorithm} places each flow for itself, whoever its client is`, "use algorithm: maglev, or bounded-load");
    if (tracking === undefined || tracking === "full") continue;
    if (forwarding !== undefined && translates(forwarding)) continue;
    yield error([...path, "tracking"], `with ${algorithm} a flow's backend is known by memory alone, and ${tracking} does `
      + "not remember all flows", "say tracking: full");
  }
}

/** A client is remembered with its flows. */
function* affinityTimeouts(draft: Draft): Iterable<Finding> {
  for (const { path, fields } of draft.services) {
    const { affinityTimeout, tracking, forwarding } = fields;
    if (affinityTimeout === undefined) continue;
    const place = [...path, "affinityTimeout"];
    if ((fields.affinityGroup ?? null) !== null)
      yield error(place, "each service remembers clients for itself, and those of an affinityGroup would part", "use one of the two");
    if (fields.secondChance === true)
      yield error([...path, "secondChance"], "with affinityTimeout the owners of its slot say nothing of a flow", "use one of the two");
    if (tracking === undefined || tracking === "full" || (forwarding !== undefined && translates(forwarding))) continue;
    yield error([...path, "tracking"], `clients are remembered with their flows, and ${tracking} does not remember all of them`,
      "say tracking: full");
  }
}

export const TRAFFIC_RULES: readonly Rule[] = [
  noServices, noBackends, noWeight, slotless, mappedPorts, families, ringSizes, affinityGroups, policies, probes, unprobedUdp, segments,
  windows, secondChances, pickedFlows, affinityTimeouts,
];
