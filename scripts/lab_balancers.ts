// Several balancers for the same virtual addresses, behind a router that spreads flows over them by their
// addresses and ports, as routers with equal-cost paths do; and backends that may ask each other. Knows
// routes and links; knows no instance and no service.

import { configure, ip, takeRedirects } from "./lab_links.ts";
import type { FarClient, Lab, LabHost } from "./lab_network.ts";
import { VIP4, VIP6 } from "./lab_network.ts";
import { runIn } from "./namespaces.ts";

/** Linux, ip-sysctl: addresses 1 and 2, protocol 4, ports 16 and 32. */
const FLOW_FIELDS = "55";

/**
 * The router leads each flow to the virtual addresses to one of these from now on. By fields that are named: by
 * "layer 4" it would take the number that the client's own kernel drew for the socket, which veth hands over, and
 * which changes when packets are lost.
 */
export function spreadFlows({ namespace }: LabHost, balancers: readonly LabHost[]): void {
  configure(namespace, {
    "net.ipv4.fib_multipath_hash_policy": "3", "net.ipv4.fib_multipath_hash_fields": FLOW_FIELDS,
    "net.ipv6.fib_multipath_hash_policy": "3", "net.ipv6.fib_multipath_hash_fields": FLOW_FIELDS,
  });
  // Replaced at once: in between, the router would tell clients that there is no such host.
  ip(namespace, "route", "replace", `${VIP4}/32`, ...balancers.flatMap(({ ipv4 }) => ["nexthop", "via", ipv4]));
  ip(namespace, "-6", "route", "replace", `${VIP6}/128`, ...balancers.flatMap(({ ipv6 }) => ["nexthop", "via", ipv6]));
}

/** The gateway that the router has for each of the client's source ports. */
export async function gatewaysOf(
  { router, ...client }: FarClient, address: typeof VIP4 | typeof VIP6, port: number, sourcePorts: readonly number[],
): Promise<ReadonlyMap<number, string>> {
  const [family, source] = address === VIP4 ? ["-4", client.ipv4] as const : ["-6", client.ipv6] as const;
  const questions = sourcePorts.map((sourcePort) =>
    `route get ${address} from ${source} iif far ipproto tcp sport ${sourcePort} dport ${port}\n`).join("");
  const { stdout } = await runIn(router.namespace, "ip", [family, "-o", "-batch", "-"], { input: questions });
  const gateways = [...stdout.matchAll(/ via (\S+) /g)].map(([, gateway = ""]) => gateway);
  if (gateways.length !== sourcePorts.length)
    throw new Error(`the router has ${gateways.length} gateways for ${sourcePorts.length} ports: ${stdout.slice(0, 500)}`);
  return new Map(sourcePorts.map((sourcePort, at) => [sourcePort, gateways[at] ?? ""]));
}

/** Pulls the cable of a host out of the switch, or puts it back. */
export function plugHost({ network }: Pick<Lab, "network">, { name }: LabHost, is: "in" | "out"): void {
  ip(network, "link", "set", name, is === "in" ? "up" : "down");
}

/** One of the balancers has no power any more; the router hears of it, and leads its flows to the others. */
export function loseHost(lab: Pick<Lab, "network">, router: LabHost, balancers: readonly LabHost[], lost: LabHost): void {
  plugHost(lab, lost, "out");
  spreadFlows(router, balancers.filter((each) => each !== lost));
}

/** Backends send on what is not theirs, whatever its size, as the second chance wants it. */
export function forwardBetweenBackends({ network, backends }: Pick<Lab, "network" | "backends">): void {
  for (const { name, namespace } of backends) {
    takeRedirects(network, name);
    configure(namespace, {
      "net.ipv4.conf.eth0.forwarding": "1", "net.ipv6.conf.all.forwarding": "1",
      // What the kernel sends on leaves by the interface that it came by: that is no news to a balancer.
      "net.ipv4.conf.all.send_redirects": "0", "net.ipv4.conf.eth0.send_redirects": "0",
    });
    // What goes to other backends has outer headers: no route may be narrower than the link.
    ip(namespace, "route", "replace", "198.18.0.0/24", "dev", "eth0");
    ip(namespace, "-6", "route", "replace", "2001:db8::/64", "dev", "eth0", "metric", "256");
  }
}
