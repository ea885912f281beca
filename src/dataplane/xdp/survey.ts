// What of the network a config depends on: the interfaces that packets arrive on, those that lead to the
// backends, and what stands behind or below them. Looks up, judges nothing: mtu_rules.ts and
// offload_rules.ts do, and need no kernel.

import type { Config, ServiceConfig } from "../../model/config.ts";
import { poolsOf } from "../../model/split.ts";
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

/** With what is at the other end of it. */
export interface Wired extends Device {
  /** Of a veth or netkit, if it is in this namespace. */
  readonly peer: Device | null;
}

/** An interface that packets arrive on. */
export interface Ingress extends Wired {
  /** What it is a port of. */
  readonly above: Link | null;
  /** Whose frames a bridge, a team, a vlan or a macvlan gets, at any depth; a bond's ports are interfaces of their own here. */
  readonly lowers: readonly Wired[];
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
  const wired = (link: Link): Wired => ({ ...device(link), peer: isPair(link) ? behind(link.peer).map(device)[0] ?? null : null });
  return {
    ingress: ingress.map((link) => ({
      ...wired(link),
      above: behind(link.master)[0] ?? null,
      lowers: below(link, links).map(wired),
      hasVlans: hasVlanOn([link.ifindex, link.master], links),
    })),
    leads,
    egress: [...new Map(leads.map(({ egress: { link } }) => [link.ifindex, link])).values()].map(device),
  };
}

/** An interface whose frames come from one other interface, as that one's sender left them. */
export function isPair({ kind }: Link): boolean {
  return kind === "veth" || kind === "netkit";
}

function below(link: Link, links: readonly Link[]): Link[] {
  const found = new Set([link]);
  for (const each of found) {
    const on = isPair(each) ? 0 : each.peer;
    for (const other of links) if (other.master === each.ifindex || (other.ifindex === on && on !== 0)) found.add(other);
  }
  return [...found].slice(1);
}

function leadsOf(config: Config, network: SurveyedNetwork, fallbackIfindex: number): Lead[] {
  const egresses = new Map<string, Egress | null>();
  const pools = new Map(config.pools.map((pool) => [pool.name, pool]));
  const leads = new Map<string, Lead>();
  for (const service of config.services) {
    for (const { address, mac } of poolsOf(service).flatMap((pool) => pools.get(pool)?.backends ?? [])) {
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
