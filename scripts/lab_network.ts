// The lab: client, balancer and N backends in network namespaces, on one switch, as hosts on a LAN would
// be. Tests, benchmarks, `npm start` and people share it. Knows namespaces, links and addresses; knows no
// forwarding table. Addresses are from 198.18.0.0/15 (RFC 2544) and 2001:db8::/32 (RFC 3849).

import { configure, connect, ip, plug, raiseNamespace, raiseSwitch, takeRedirects } from "./lab_links.ts";
import { deleteNamespace, mountBpffs } from "./namespaces.ts";

export interface LabOptions {
  /** Part of the namespaces' names; two labs of one process need two labels. */
  readonly label: string;
  readonly backends: number;
  /** MTU of the client's link. The other links have room for an outer header. */
  readonly mtu: number;
  /** How much more the other links carry; absent: room for the largest outer headers. */
  readonly tunnelRoom?: number;
  /** Puts the virtual addresses on the balancer too, for the proxy plane. */
  readonly localVip: boolean;
}

export interface LabHost {
  readonly name: string;
  readonly namespace: string;
  readonly ipv4: string;
  readonly ipv6: string;
}

export interface FarClient extends LabHost {
  /** Between it and everybody else. */
  readonly router: LabHost;
}

/** The virtual addresses of the lab. */
export const VIP4 = "198.18.100.1";
export const VIP6 = "2001:db8:100::1";
/** Room for the largest outer headers: IPv6, UDP and GUE, 40 + 8 + 4 bytes. */
const TUNNEL_ROOM = 52;

export interface Lab {
  readonly client: LabHost;
  readonly balancer: LabHost;
  readonly backends: readonly LabHost[];
  /** The balancer's interface. */
  readonly interface: string;
  /** Namespace of the switch, whose ports have the names of the hosts. */
  readonly network: string;
  /** Adds one more backend host while everything runs. */
  addBackend(): LabHost;
  /** Adds another balancer, to which nothing leads yet (lab_balancers.ts). */
  addBalancer(): LabHost;
  /**
   * Adds a router, and a client behind it on a link of this MTU, of which the client says nothing:
   * it announces segments that fit the others' links. Both are there for the backends up to now.
   */
  addFarClient(mtu: number): FarClient;
  /** The backends up to now send what is for the client, and the far one, to the balancer, as nat wants it. */
  returnThroughBalancer(): void;
  /** Deletes the namespaces with all that runs in them. */
  close(): void;
}

/** A namespace on the switch: eth0 with an address of each family, no route out. */
function raiseHost(lab: string, network: string, name: string, host: number, mtu: number): LabHost {
  const namespace = raiseNamespace(`${lab}-${name}`);
  const ipv4 = `198.18.0.${host}`;
  const ipv6 = `2001:db8::${host.toString(16)}`;
  connect(network, name, mtu, { namespace, link: "eth0", ipv4: `${ipv4}/24`, ipv6: `${ipv6}/64` });
  return { name, namespace, ipv4, ipv6 };
}

/** Has a host of direct server return hold the virtual addresses, and tell nobody. */
export function holdVips(namespace: string): void {
  // A host that owns the VIP on lo must not answer ARP for it, or the client would meet it directly.
  configure(namespace, {
    "net.ipv4.conf.all.arp_ignore": "1", "net.ipv4.conf.all.arp_announce": "2",
    "net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.eth0.rp_filter": "0",
  });
  addVip(namespace);
}

function addVip(namespace: string): void {
  ip(namespace, "addr", "add", `${VIP4}/32`, "dev", "lo");
  ip(namespace, "addr", "add", `${VIP6}/128`, "dev", "lo", "nodad");
}

/** Has a host know no virtual address: whatever reaches it then was translated. */
export function forgetVips(namespace: string): void {
  ip(namespace, "addr", "del", `${VIP4}/32`, "dev", "lo");
  ip(namespace, "addr", "del", `${VIP6}/128`, "dev", "lo");
}

/** Of the links other than the client's. */
function mtuBehind({ mtu, tunnelRoom }: LabOptions): number {
  return mtu + (tunnelRoom ?? TUNNEL_ROOM);
}

/** The backend of direct server return: it owns the VIP, tells nobody, and answers the client itself. */
function raiseBackend(options: LabOptions, network: string, index: number): LabHost {
  const host = raiseHost(options.label, network, `web-${index}`, 10 + index, mtuBehind(options));
  // Replies must fit the client's link although ours has room for tunnels.
  ip(host.namespace, "route", "replace", "198.18.0.0/24", "dev", "eth0", "mtu", String(options.mtu));
  // With the metric of the kernel's own route: with another one, that one would stay and be preferred.
  ip(host.namespace, "-6", "route", "replace", "2001:db8::/64", "dev", "eth0", "metric", "256",
    "mtu", String(options.mtu));
  holdVips(host.namespace);
  return host;
}

/** Header bytes of IP and TCP, which a segment size does not count. */
const IPV4_SEGMENT_OVERHEAD = 40;
const IPV6_SEGMENT_OVERHEAD = 60;

/** The client on the other side of `router`. */
function raiseFarClient(options: LabOptions, router: LabHost, balancer: LabHost, mtu: number): FarClient {
  const namespace = raiseNamespace(`${options.label}-far`);
  const [ipv4, ipv6] = ["198.18.1.2", "2001:db8:1::2"];
  ip(router.namespace, "link", "add", "far", "mtu", String(mtu), "type", "veth",
    "peer", "name", "eth0", "netns", namespace, "mtu", String(mtu));
  for (const [where, link, last] of [[router.namespace, "far", 1], [namespace, "eth0", 2]] as const)
    plug({ namespace: where, link, ipv4: `198.18.1.${last}/24`, ipv6: `2001:db8:1::${last}/64` });
  ip(namespace, "route", "add", "default", "via", "198.18.1.1",
    "advmss", String(options.mtu - IPV4_SEGMENT_OVERHEAD));
  ip(namespace, "-6", "route", "add", "default", "via", "2001:db8:1::1",
    "advmss", String(options.mtu - IPV6_SEGMENT_OVERHEAD));
  configure(router.namespace, { "net.ipv4.ip_forward": "1", "net.ipv6.conf.all.forwarding": "1" });
  ip(router.namespace, "route", "add", `${VIP4}/32`, "via", balancer.ipv4);
  ip(router.namespace, "-6", "route", "add", `${VIP6}/128`, "via", balancer.ipv6);
  return { name: "far", namespace, ipv4, ipv6, router };
}

/** A host that answers for virtual addresses which it may not have, and that XDP redirects to. */
function raiseBalancer(options: LabOptions, network: string, name: string, host: number): LabHost {
  const balancer = raiseHost(options.label, network, name, host, mtuBehind(options));
  takeRedirects(network, name);
  configure(balancer.namespace, {
    "net.ipv4.ip_forward": "0", "net.ipv4.conf.all.rp_filter": "0", "net.ipv4.conf.eth0.rp_filter": "0",
    // A balancer that sends the client to a backend "directly" would be left out of the path.
    "net.ipv4.conf.all.send_redirects": "0", "net.ipv4.conf.eth0.send_redirects": "0",
  });
  if (options.localVip) addVip(balancer.namespace);
  return balancer;
}

/** Raises the lab. What was made is taken down again when a step fails. */
export function raiseLab(options: LabOptions): Lab {
  mountBpffs();
  const namespaces: string[] = [];
  const close = (): void => { for (const name of namespaces) deleteNamespace(name); };
  try {
    const network = raiseSwitch(options.label);
    namespaces.push(network);
    const balancer = raiseBalancer(options, network, "balancer", 1);
    namespaces.push(balancer.namespace);
    const client = raiseHost(options.label, network, "client", 2, options.mtu);
    namespaces.push(client.namespace);
    const backends: LabHost[] = [];
    const addBackend = (): LabHost => {
      const host = raiseBackend(options, network, backends.length + 1);
      namespaces.push(host.namespace);
      backends.push(host);
      return host;
    };
    for (let i = 0; i < options.backends; i++) addBackend();
    let balancers = 1;
    const addBalancer = (): LabHost => {
      balancers += 1;
      // Between the router's address and the backends'.
      const another = raiseBalancer(options, network, `balancer-${balancers}`, 2 + balancers);
      namespaces.push(another.namespace);
      return another;
    };
    const addFarClient = (mtu: number): FarClient => {
      const router = raiseHost(options.label, network, "router", 3, options.mtu);
      namespaces.push(router.namespace);
      const far = raiseFarClient(options, router, balancer, mtu);
      namespaces.push(far.namespace);
      for (const { namespace } of backends) {
        ip(namespace, "route", "replace", "198.18.1.0/24", "via", router.ipv4);
        ip(namespace, "-6", "route", "replace", "2001:db8:1::/64", "via", router.ipv6);
      }
      return far;
    };
    const returnThroughBalancer = (): void => {
      for (const { namespace } of backends) {
        // No router is in between that could say how narrow the client's link is.
        const mtu = ["mtu", String(options.mtu)];
        ip(namespace, "route", "replace", `${client.ipv4}/32`, "via", balancer.ipv4, ...mtu);
        ip(namespace, "-6", "route", "replace", `${client.ipv6}/128`, "via", balancer.ipv6, ...mtu);
        ip(namespace, "route", "replace", "198.18.1.0/24", "via", balancer.ipv4);
        ip(namespace, "-6", "route", "replace", "2001:db8:1::/64", "via", balancer.ipv6);
        // The client is on the link, and a router that knows says so.
        configure(namespace, {
          "net.ipv4.conf.all.accept_redirects": "0", "net.ipv4.conf.eth0.accept_redirects": "0",
          "net.ipv6.conf.all.accept_redirects": "0", "net.ipv6.conf.eth0.accept_redirects": "0",
        });
      }
    };
    ip(client.namespace, "route", "add", `${VIP4}/32`, "via", balancer.ipv4);
    ip(client.namespace, "-6", "route", "add", `${VIP6}/128`, "via", balancer.ipv6);
    return {
      client, balancer, backends, interface: "eth0", network,
      addBackend, addBalancer, addFarClient, returnThroughBalancer, close,
    };
  } catch (error) {
    close();
    throw error;
  }
}
