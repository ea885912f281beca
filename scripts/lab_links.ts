// What the labs are built of: namespaces that speak at once, switches, and the cables between them. Knows
// ip(8), sysctl and what veth needs so that XDP may redirect into it; knows no topology and no service.

import { existsSync } from "node:fs";
import { createNamespace, runInSync } from "./namespaces.ts";

/** Runs ip(8) in a namespace. */
export function ip(namespace: string, ...args: string[]): void {
  runInSync(namespace, "ip", args);
}

/** Sets kernel parameters of a namespace. */
export function configure(namespace: string, settings: Readonly<Record<string, string>>): void {
  for (const [key, value] of Object.entries(settings)) {
    runInSync(namespace, "sysctl", ["-qw", `${key}=${value}`]);
  }
}

/** A namespace with a bridge that forwards from the start, tags included, and asks no firewall. */
export function raiseSwitch(label: string): string {
  const namespace = createNamespace(`${label}-switch`);
  ip(namespace, "link", "add", "bridge", "type", "bridge", "forward_delay", "0", "stp_state", "0", "mcast_snooping", "0");
  ip(namespace, "link", "set", "bridge", "up");
  configure(namespace, { "net.ipv6.conf.all.disable_ipv6": "1" });
  // There once br_netfilter is loaded, as by Docker: a twentieth of what a small exchange costs in the lab.
  if (existsSync("/proc/sys/net/bridge")) {
    configure(namespace, {
      "net.bridge.bridge-nf-call-iptables": "0", "net.bridge.bridge-nf-call-ip6tables": "0", "net.bridge.bridge-nf-call-arptables": "0",
    });
  }
  return namespace;
}

/** A namespace whose addresses can be used at once, and that takes none from others. */
export function raiseNamespace(label: string): string {
  const namespace = createNamespace(label);
  configure(namespace, {
    "net.ipv6.conf.all.accept_dad": "0", "net.ipv6.conf.default.accept_dad": "0",
    "net.ipv6.conf.all.accept_ra": "0", "net.ipv6.conf.default.accept_ra": "0",
  });
  return namespace;
}

export interface Plug {
  readonly namespace: string;
  readonly link: string;
  /** With their prefix lengths. */
  readonly ipv4: string;
  readonly ipv6: string;
}

/** An end of a link with its addresses. */
export function plug({ namespace, link, ipv4, ipv6 }: Plug): void {
  ip(namespace, "addr", "add", ipv4, "dev", link);
  ip(namespace, "addr", "add", ipv6, "dev", link, "nodad");
  ip(namespace, "link", "set", link, "up");
  // Frames that native XDP redirects leave veth without their partial checksum being completed.
  runInSync(namespace, "ethtool", ["-K", link, "tx", "off"]);
}

/** A cable from a switch to a host; `port` is the switch's end. */
export function connect(network: string, port: string, mtu: number, to: Plug): void {
  ip(network, "link", "add", port, "mtu", String(mtu), "type", "veth",
    "peer", "name", to.link, "netns", to.namespace, "mtu", String(mtu));
  ip(network, "link", "set", port, "master", "bridge", "up");
  plug(to);
}

/**
 * Has the switch take in what a host sends by a kernel thread, as a network does beyond a cable. Else all that a packet
 * meets, up to the other host's sockets, is done in the system call that sends it, and counts as the sender's time.
 */
export function takeOver(network: string, port: string): void {
  takeRedirects(network, port); // threads are NAPI's
  // /sys shows the links of the namespace in which it was mounted.
  runInSync(network, "unshare", ["--mount", "sh", "-ec", `mount -t sysfs none /sys; echo 1 >/sys/class/net/${port}/threaded`]);
}

/** XDP_REDIRECT into a veth needs NAPI on its peer, which GRO switches on. */
export function takeRedirects(network: string, port: string): void {
  runInSync(network, "ethtool", ["-K", port, "gro", "on"]);
}
