// Cross-field rules about translation: whose addresses and ports flows get, and what that must not
// meet. Each rule is a function of the draft, and of what the caller knows of the host.

import { parseAddress } from "../model/address.ts";
import type { Address } from "../model/address.ts";
import { NAT_SOURCES_MAX, translates } from "../model/nat.ts";
import { formatPorts, holdsAddress, portCount } from "../model/service_address.ts";
import type { PortRange } from "../model/service_address.ts";
import type { Draft } from "./draft.ts";
import { checkNatPorts, durationMs, readPorts } from "./formats.ts";
import { portsTaken } from "./host.ts";
import { quoted } from "./problem.ts";
import type { Finding, Path } from "./problem.ts";
import { error, poolUses, serviceName, warning } from "./rules_names.ts";
import type { Rule } from "./rules_names.ts";
import { valueAt } from "./explain.ts";

const NAT: Path = ["dataplane", "nat"];

function sourcesOf(draft: Draft): { readonly path: Path; readonly address: Address }[] {
  const list = valueAt(draft.root, [...NAT, "sources"]);
  return (Array.isArray(list) ? list : []).flatMap((text: unknown, index) => {
    const address = typeof text === "string" ? parseAddress(text) : null;
    return address === null ? [] : [{ path: [...NAT, "sources", index], address }];
  });
}

/** The ports, where they can be read. */
function portsOf(draft: Draft): PortRange | null {
  const text = draft.dataplane.nat?.ports;
  return text === undefined || checkNatPorts(text) !== null ? null : readPorts(text);
}

function hasTranslated(draft: Draft): boolean {
  return draft.dataplane.mode !== "proxy" && draft.services.some(({ fields: { forwarding } }) => translates(forwarding));
}

function* sources(draft: Draft): Iterable<Finding> {
  const seen = new Set<string>();
  const counts = { 4: 0, 6: 0 };
  for (const { path, address } of sourcesOf(draft)) {
    if (seen.has(address.text)) yield error(path, `${address.text} is in the list already`);
    seen.add(address.text);
    counts[address.family] += 1;
    if (counts[address.family] === NAT_SOURCES_MAX + 1) {
      yield error(path, `more than ${NAT_SOURCES_MAX} IPv${address.family} addresses`,
        "fewer addresses with more ports do as well");
    }
    const owner = draft.pools.find(({ backends }) =>
      backends?.some((backend) => backend.address?.text === address.text));
    if (owner !== undefined) {
      yield error(path, `${address.text} is the address of a backend of ${quoted(owner.name)}`,
        "no host takes packets from its own address; use an address of this host");
    }
    const service = draft.services.find(({ network }) =>
      network !== null && holdsAddress(network, address.bytes));
    if (service === undefined) continue;
    yield warning(path, `${address.text} is an address of ${serviceName(service)}`,
      "answers come to whichever host has it: use one that stays with this host");
  }
}

/** Without a source of a family, backends see what address the host has towards them. */
function* sourceFamilies(draft: Draft): Iterable<Finding> {
  const listed = new Set(sourcesOf(draft).map(({ address }) => address.family));
  if (listed.size !== 1 || !hasTranslated(draft)) return;
  for (const [pool, service] of poolUses(draft)) {
    if (service?.fields.forwarding !== "fullnat") continue;
    const other = (pool.backends ?? []).find(({ address }) =>
      address !== null && !listed.has(address.family));
    if (other?.address === null || other === undefined) continue;
    const { family, text } = other.address;
    yield warning([...NAT, "sources"],
      `there is no IPv${family} address for ${text}, a backend of ${serviceName(service)}`,
      "it sees this host's own address; add one to say which");
    return;
  }
}

/** RFC 5382, REQ-5: not less than two hours and four minutes. */
const ESTABLISHED_MIN_MS = 124 * 60_000;

/** TCP's keepalive begins after two hours (RFC 9293, 3.8.4). */
function* establishedTimeout(draft: Draft): Iterable<Finding> {
  const path = [...NAT, "timeouts", "established"];
  const text = valueAt(draft.root, path);
  const ms = typeof text === "string" ? durationMs(text) : null;
  if (ms === null || ms >= ESTABLISHED_MIN_MS || !hasTranslated(draft)) return;
  yield warning(path, `${String(text)} is shorter than 124m, which RFC 5382 asks for`,
    "connections that are idle longer break, and keepalives of most hosts begin after 2h");
}

function* nodes(draft: Draft): Iterable<Finding> {
  const { node, nodes: count } = draft.dataplane.nat ?? {};
  if (node === undefined || count === undefined) return;
  if (node >= count) {
    yield error([...NAT, "node"], `there is no node ${node} of ${count}`, `0 to ${count - 1}`);
  }
  const ports = portsOf(draft);
  if (ports === null || portCount(ports) >= count) return;
  yield error([...NAT, "ports"],
    `${portCount(ports)} ports are not enough for ${count} nodes`, "each node has its own part");
}

/** The host's own connections, probes among them, must not come from a port that a flow may have. */
function* localPorts(draft: Draft): Iterable<Finding> {
  const ports = portsOf(draft);
  if (ports === null || draft.host === null || !hasTranslated(draft)) return;
  const taken = portsTaken(draft.host, ports);
  if (taken === null) return;
  yield error([...NAT, "ports"],
    `${formatPorts(ports)} meets ${formatPorts(taken)}, the ports of this host's own connections`,
    "choose others, or change net.ipv4.ip_local_port_range or net.ipv4.ip_local_reserved_ports");
}

/** The proxy plane connects anew, and may change the family. */
function* families(draft: Draft): Iterable<Finding> {
  const { mode } = draft.dataplane;
  if (mode === undefined || mode === "proxy") return;
  for (const [pool, service] of poolUses(draft)) {
    const virtual = service?.network?.address ?? null;
    if (service === null || virtual === null || service.fields.forwarding !== "fullnat") continue;
    for (const { path, address } of pool.backends ?? []) {
      if (address === null || address.family === virtual.family) continue;
      const reason = `${serviceName(service)} is IPv${virtual.family}, and fullnat keeps the family `
        + "in the XDP plane";
      const place = [...path, "address"];
      yield mode === "xdp" ? error(place, reason, "use ipip, gue or gre, or mode: proxy")
        : warning(place, reason, "with mode: auto, the proxy plane serves all; else use ipip, gue or gre");
    }
  }
}

export const NAT_RULES: readonly Rule[] = [
  sources, sourceFamilies, nodes, localPorts, establishedTimeout, families,
];
