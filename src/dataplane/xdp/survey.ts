// What of the network a config depends on: the interfaces that packets arrive on, those that lead to the
// backends, and what stands behind or below them. Looks up, judges nothing: mtu_rules.ts and
// offload_rules.ts do, and need no kernel.

import type { Config, ServiceConfig } from "../../model/config.ts";
import { attachable } from "./bonds.ts";
import type { Native } from "./native.ts";
import { egressTo, type Egress, type Network } from "./next_hops.ts";
import { activeOffloads, type Offloads } from "./netlink/offloads.ts";
import type { Link } from "./netlink/rtnetlink.ts";
import { xdpFeatures, type XdpFeatures } from "./netlink/xdp_features.ts";
import { hasVlanOn } from "./vlans.ts";

export interface Device {
  readonly link: Link;
  /** Null: not known. */
  readonly xdp: XdpFeatures | null;
  readonly offloads: Offloads | null;
}

/** A way that packets of some services take to some backends. */
export interface Lead {
  readonly service: ServiceConfig;
  /** Of the backend's address. */
  readonly family: 4 | 6;
  readonly egress: Egress;
}

/** An interface that packets arrive on. */
export interface Ingress extends Device {
  /** The other end of a veth, if it is in this namespace. */
  readonly peer: Device | null;
  /** What it is a port of. */
  readonly above: Link | null;
  /** Whose frames a bridge, a vlan or a macvlan gets; a bond's ports are interfaces of their own here. */
  readonly lowers: readonly Device[];
  /** Whether there is a vlan on it, or on what it is a port of. */
  readonly hasVlans: boolean;
}

export interface Survey {
  readonly ingress: readonly Ingress[];
  /** Each once, of services that XDP serves, as far as a route leads there. */
  readonly leads: readonly Lead[];
  /** The interfaces of the leads. */
  readonly egress: readonly Device[];
}

/** What is looked at: watch.ts has it, and a few requests give it. */
export type SurveyedNetwork = Pick<Network, "link" | "links" | "route">;

type Asked = Pick<Device, "xdp" | "offloads">;

/** The kernel's answers about one interface. */
export function askDevice(native: Native): (link: Link) => Asked {
  return ({ ifindex }) => ({ xdp: xdpFeatures(native, ifindex), offloads: activeOffloads(native, ifindex) });
}

export function surveyOf(config: Config, network: SurveyedNetwork, ask: (link: Link) => Asked): Survey {
  const known = new Map<number, Device>();
  const device = (link: Link): Device => {
    const found = known.get(link.ifindex) ?? { link, ...ask(link) };
    known.set(link.ifindex, found);
    return found;
  };
  const links = network.links();
  const named = config.dataplane.interfaces.flatMap((name) => links.filter((link) => link.name === name));
  const ingress = named.flatMap((link) => attachable(link, links));
  const leads = leadsOf(config, network, named[0]?.ifindex ?? 0);
  const behind = (ifindex: number): Link[] => links.filter((link) => link.ifindex === ifindex && ifindex !== 0);
  return {
    ingress: ingress.map((link) => ({
      ...device(link),
      peer: link.kind === "veth" ? behind(link.peer).map(device)[0] ?? null : null,
      above: behind(link.master)[0] ?? null,
      lowers: [
        ...link.kind === "veth" ? [] : behind(link.peer), ...links.filter(({ master }) => master === link.ifindex),
      ].map(device),
      hasVlans: hasVlanOn([link.ifindex, link.master], links),
    })),
    leads,
    egress: [...new Map(leads.map(({ egress: { link } }) => [link.ifindex, link])).values()].map(device),
  };
}

function leadsOf(config: Config, network: SurveyedNetwork, fallbackIfindex: number): Lead[] {
  const egresses = new Map<string, Egress | null>();
  const pools = new Map(config.pools.map((pool) => [pool.name, pool]));
  const leads = new Map<string, Lead>();
  for (const service of config.services) {
    for (const { address, mac } of pools.get(service.pool)?.backends ?? []) {
      const target = `${address.text} ${mac ?? ""}`;
      let egress = egresses.get(target);
      if (egress === undefined) {
        egress = egressTo({ address, mac }, network, fallbackIfindex);
        egresses.set(target, egress);
      }
      if (egress === null) continue;
      const key = `${service.name} ${address.family} ${egress.link.ifindex} ${egress.mtu}`;
      leads.set(key, { service, family: address.family, egress });
    }
  }
  return [...leads.values()];
}
