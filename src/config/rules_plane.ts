// Cross-field rules about the planes: what the chosen mode needs, cannot do or ignores, and the
// totals that limits allow. Knows the feature table; must never find out what this host can do
// (that is doctor).

import { isLoopback } from "../model/address.ts";
import {
  FEATURE_KEYS, PORTS_WITHOUT_SOCKETS, PREFIX_WITHOUT_SOCKETS, PROXY_PORTS_MAX, supportOf,
} from "../model/features.ts";
import type { FeatureKey, Plane, Support } from "../model/features.ts";
import type { Forwarding } from "../model/config.ts";
import { PORT_MAX, portCount, singleAddress, singlePort } from "../model/service_address.ts";
import type { Draft, DraftService } from "./draft.ts";
import { valueAt } from "./explain.ts";
import { schemaAt } from "./known.ts";
import type { Finding, Path } from "./problem.ts";
import { error, poolUses, serviceName, warning } from "./rules_names.ts";
import type { Rule } from "./rules_names.ts";

function* interfaces(draft: Draft): Iterable<Finding> {
  const path = ["dataplane", "interfaces"];
  const list: unknown = valueAt(draft.root, path);
  const names: readonly unknown[] = Array.isArray(list) ? list : [];
  for (const [index, name] of names.entries()) {
    if (names.indexOf(name) < index) yield error(
      [...path, index], `${String(name)} is in the list already`,
    );
  }
  const { mode, interfaces: parsed } = draft.dataplane;
  if (parsed?.length !== 0) return;
  const hint = "name the interface that packets arrive on, such as [eth0]";
  if (mode === "xdp") yield error(path, "mode xdp needs an interface", hint);
  if (mode === "auto") yield warning(
    path, "without an interface the proxy plane is used", `${hint}, or say mode: proxy`,
  );
  for (const { path: service, fields } of draft.services) {
    if (fields.vip?.assign !== "interface") continue;
    yield error([...service, "vip", "assign"], "there is no interface to put the address on",
      "add one to dataplane.interfaces");
  }
}

function* loopback(draft: Draft): Iterable<Finding> {
  if (draft.dataplane.mode !== "xdp") return;
  const items = [
    ...draft.services.map(({ path, network }) => ({ path, address: network?.address ?? null })),
    ...draft.pools.flatMap((pool) => pool.backends ?? []),
  ];
  for (const { path, address } of items) {
    if (address === null || !isLoopback(address)) continue;
    yield warning([
      ...path, "address",
    ], `${address.text} is a loopback address, which no packet on a wire has`,
      "mode xdp forwards between hosts");
  }
}

/** With one address for every VIP, two services can want the same socket. */
function* listeningPorts(draft: Draft): Iterable<Finding> {
  const { mode, proxy } = draft.dataplane;
  if (proxy === undefined || mode === undefined || mode === "xdp") return;
  const taken = new Map<string, string>();
  for (const service of draft.services) {
    const { network, ports, fields: { protocol } } = service;
    if (ports === null || protocol === undefined || network === null) continue;
    const { address } = network;
    if (unserved(service) !== null) continue;
    const last = ports.to + proxy.portOffset;
    if (last > PORT_MAX) {
      yield error([
        ...service.path, "port",
      ], `with portOffset ${proxy.portOffset} the proxy would listen on ${last}`,
        "ports end at 65535; lower dataplane.proxy.portOffset");
    }
    const port = singlePort(ports);
    if (proxy.bind === "vip" || port === null) continue;
    const sum = port + proxy.portOffset;
    const socket =
      `${protocol} ${proxy.bind === "any" ? "any" : `IPv${address.family} loopback`} port ${sum}`;
    const other = taken.get(socket);
    if (other === undefined) taken.set(socket, serviceName(service));
    else {
      yield warning([
        ...service.path, "port",
      ], `in the proxy plane ${other} already listens on ${socket}`,
        `with bind: ${proxy.bind} only one of them is served`);
    }
  }
}

/** Why the proxy plane has no sockets for a service, or null. */
function unserved({ network, ports }: DraftService): { key: string; reason: string } | null {
  if (network !== null && singleAddress(network) === null) {
    return { key: "address", reason: PREFIX_WITHOUT_SOCKETS };
  }
  if (ports === null || portCount(ports) <= PROXY_PORTS_MAX) return null;
  return { key: "port", reason: PORTS_WITHOUT_SOCKETS };
}

function* unservedByProxy(draft: Draft): Iterable<Finding> {
  const { mode, interfaces: names } = draft.dataplane;
  if (mode === undefined || mode === "xdp" || (mode === "auto" && names?.length !== 0)) return;
  for (const service of draft.services) {
    const found = unserved(service);
    if (found === null) continue;
    yield warning([...service.path, found.key], `not served: ${found.reason}`,
      "the other services are; the XDP plane serves all of them");
  }
}

function* totals(draft: Draft): Iterable<Finding> {
  const { services, backends } = draft.limits;
  const count = draft.services.reduce((sum, { fields: { geo } }) => sum + 1 + (geo?.regions.length ?? 0), 0);
  if (services !== undefined && count > services) {
    const regions = count > draft.services.length ? ", with one for each region," : "";
    yield error(["services"], `${count} services${regions} are more than limits.services, ${services}`, "raise the limit");
  }
  if (backends === undefined) return;
  const destinations = new Set<string>();
  for (const [pool, service] of poolUses(draft)) {
    if (service === null) continue;
    for (const [index, { address, fields }] of (pool.backends ?? []).entries()) {
      const port = fields.port ?? service.fields.port;
      if (address === null || port === undefined) continue;
      const way = service.fields.forwarding ?? "";
      destinations.add(`${pool.path.join("/")}/${index} ${address.text} ${port} ${way}`);
    }
  }
  if (destinations.size > backends) {
    yield error([
      "limits", "backends",
    ], `${destinations.size} destinations are more than limits.backends, ${backends}`,
      "each backend counts once for each port and way of forwarding; raise the limit (at most "
        + "32767)");
  }
}

/** With the plane fixed by the mode, each key in the file that this plane ignores. */
function* ignoredKeys(draft: Draft): Iterable<Finding> {
  const { mode } = draft.dataplane;
  if (mode !== undefined && mode !== "auto") yield* ignoredBy(draft, mode);
}

/** Each key in the file that a plane ignores. */
export function* ignoredBy(draft: Draft, plane: Plane): Iterable<Finding> {
  for (const key of FEATURE_KEYS) {
    for (const { path, forwarding } of occurrences(draft, key)) {
      const value = valueAt(draft.root, path);
      if (value === undefined || (key !== "services[].forwarding" && isDefault(
        draft.root, path, value,
      ))) continue;
      const ignored = reasonIgnored(key, plane, forwarding);
      if (ignored !== null) yield {
        ...warning(path, `ignored by the ${plane} plane: ${ignored}`), at: "key",
      };
    }
  }
}

/** What the file would mean without it is not worth a warning; how packets travel always is. */
function isDefault(root: unknown, path: Path, value: unknown): boolean {
  if (typeof value === "object" && value !== null && !Array.isArray(value)) {
    // Where nothing is the default, something is asked for even if all of its keys have theirs.
    if (schemaAt(path, root)?.default === null) return false;
    return Object.entries(value).every(([key, inner]) => isDefault(root, [...path, key], inner));
  }
  return JSON.stringify(schemaAt(path, root)?.default) === JSON.stringify(value);
}

/** Only what every service that is concerned ignores is ignored. */
function reasonIgnored(
  key: FeatureKey, plane: Plane, forwarding: readonly Forwarding[],
): string | null {
  const answers = forwarding.map((way): Support => supportOf(key, plane, way));
  const ignored = answers.filter((answer) => typeof answer === "object" && "ignored" in answer);
  const [first] = ignored;
  return first === undefined || ignored.length < answers.length ? null : first.ignored;
}

interface Occurrence {
  readonly path: Path;
  /** Of the services that the key concerns. */
  readonly forwarding: readonly Forwarding[];
}

function occurrences(draft: Draft, key: FeatureKey): Occurrence[] {
  const [list = "", ...rest] = key.split("[].");
  const ways = draft.services.map(
    ({ fields }) => fields.forwarding,
  ).filter((way) => way !== undefined);
  if (rest.length === 0) return [{ path: list.split("."), forwarding: ways }];
  const tail = (rest.at(-1) ?? "").split(".");
  if (list === "services") {
    return draft.services.flatMap(({ path, fields }) => fields.forwarding === undefined
      ? [] : [{ path: [...path, ...tail], forwarding: [fields.forwarding] }]);
  }
  if (rest.length === 1) {
    return draft.pools.map((pool) => ({
      path: [...pool.path, ...tail],
      forwarding: draft.services.filter((service) => service.pools.includes(pool))
        .map(({ fields }) => fields.forwarding).filter((way) => way !== undefined),
    }));
  }
  return draft.pools.flatMap((pool) => (pool.backends ?? [])
    .map(({ path }) => ({ path: [...path, ...tail], forwarding: ways })));
}

export const PLANE_RULES: readonly Rule[] = [
  interfaces, loopback, listeningPorts, unservedByProxy, totals, ignoredKeys,
];
