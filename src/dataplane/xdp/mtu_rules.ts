// Whether packets of the size that the ingress brings fit the way to the backends, outer headers
// included. Pure: a survey in, findings with figures out. bpf/forward.h is what then happens to them.

import type { Config } from "../../model/config.ts";
import { tunnelOverhead } from "../../model/tunnel_overhead.ts";
import type { Finding } from "./finding.ts";
import type { Ingress, Lead, Survey } from "./survey.ts";

/** What hosts use on Ethernet. */
const USUAL_MTU = 1500;
/** No IPv6 sender goes below it, whatever it is told (RFC 8200, 5). */
const IPV6_MTU_MIN = 1280;
const IP_AND_TCP_BYTES = { 4: 40, 6: 60 } as const;
const NAMES_SHOWN_MAX = 5;

/** Services that fare alike. */
interface Group {
  readonly lead: Lead;
  readonly overhead: number;
  readonly inner: 4 | 6;
  readonly services: string[];
}

export function mtuFindings(config: Config, survey: Survey): Finding[] {
  return groupsOf(survey).flatMap((group) => {
    const { lead: { egress }, overhead, inner } = group;
    const fits = egress.mtu - overhead;
    if (inner === 6 && fits < IPV6_MTU_MIN) return [tooNarrow(group)];
    const ingress = widest(survey.ingress, group);
    if (ingress === null || ingress.size <= fits) return [];
    return [tight(config, group, ingress)];
  });
}

function groupsOf({ leads }: Survey): Group[] {
  const groups = new Map<string, Group>();
  for (const lead of leads) {
    const { service, family, egress } = lead;
    const overhead = tunnelOverhead(service, family);
    const inner = service.network.address.family;
    const key = [service.forwarding, overhead, inner, egress.link.ifindex, egress.mtu].join(" ");
    const group = groups.get(key) ?? { lead, overhead, inner, services: [] };
    if (!group.services.includes(service.name)) group.services.push(service.name);
    groups.set(key, group);
  }
  return [...groups.values()];
}

/**
 * The largest packet that may come, and where. By an interface that packets also leave by, clients' are taken to be
 * no larger than usual: its MTU was raised for the outer headers.
 */
function widest(ingress: readonly Ingress[], { lead: { egress } }: Group): { name: string; size: number } | null {
  let found: { name: string; size: number } | null = null;
  for (const { link } of ingress) {
    const size = link.ifindex === egress.link.ifindex ? Math.min(link.mtu, USUAL_MTU) : link.mtu;
    if (found === null || size > found.size) found = { name: link.name, size };
  }
  return found;
}

function nameOf({ lead: { service: { forwarding }, egress, family }, inner }: Group): string {
  const where = forwarding === "l2" ? "" : ` in IPv${family}`;
  return `MTU of ${forwarding} for IPv${inner}${where} by ${egress.link.name}`;
}

function who({ services }: Group): string {
  const others = services.length - NAMES_SHOWN_MAX;
  return `${services.slice(0, NAMES_SHOWN_MAX).join(", ")}${others > 0 ? ` and ${others} more` : ""}`;
}

/** "eth1 carries 1500", or the route does. */
function carries({ lead: { egress: { link, mtu } } }: Group): string {
  return mtu < link.mtu ? `a route by ${link.name} carries ${mtu}` : `${link.name} carries ${mtu}`;
}

function raise({ lead: { egress: { link, mtu } } }: Group, wanted: number): string {
  const route = `raise the MTU of the route by ${link.name} to ${wanted}`;
  const device = `ip link set ${link.name} mtu ${wanted}`;
  if (mtu >= link.mtu) return `${device} (and whatever is on the way to the backends)`;
  return link.mtu >= wanted ? route : `${device}, and ${route}`;
}

function tooNarrow(group: Group): Finding {
  const { lead: { egress: { mtu } }, overhead } = group;
  const behind = overhead === 0 ? "" : `, of which the outer headers take ${overhead}`;
  return {
    level: "error", name: nameOf(group),
    found: `${who(group)}: ${carries(group)}${behind}; the ${Math.max(0, mtu - overhead)} that are left are less than `
      + `${IPV6_MTU_MIN}, below which no IPv6 sender goes: its larger packets are all lost`,
    remedy: raise(group, IPV6_MTU_MIN + overhead),
  };
}

function tight(config: Config, group: Group, ingress: { readonly name: string; readonly size: number }): Finding {
  const { lead: { egress: { mtu } }, overhead, inner } = group;
  const fits = Math.max(0, mtu - overhead);
  const grown = overhead === 0 ? "do not fit, since" : `are ${ingress.size + overhead} with the outer headers, and`;
  const fate = config.limits.icmpErrors > 0
    ? `their senders are told by ICMP that ${fits} fits, which some networks do not let through`
    : "they are dropped and nobody is told (limits.icmpErrors is 0)";
  return {
    level: "warning", name: nameOf(group),
    found: `${who(group)}: packets of ${ingress.size} bytes, as ${ingress.name} brings them, ${grown} ${carries(group)}: ${fate}`,
    remedy: `${raise(group, ingress.size + overhead)}; or clients that send ${fits} at most `
      + `(a route's MTU, or TCP segments of ${Math.max(0, fits - IP_AND_TCP_BYTES[inner])})`,
  };
}
