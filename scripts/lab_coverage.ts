// What the labs show: which ways of forwarding, in which surroundings, with which addresses and protocols, and the
// test of each. The lab tests take their cases from the lists here, docs/forwarding.md its table, and
// test/unit/lab_coverage.test.ts looks for the tests in their files. Knows names; raises nothing.

import type { DirectForwarding, LabForwarding, TranslatedForwarding } from "./lab_services.ts";

/** A way of forwarding, and the family of the backends' addresses: of a tunnel's outer header. */
export interface LabWay<F extends LabForwarding = LabForwarding> {
  readonly forwarding: F;
  readonly backendFamily: 4 | 6;
}

/** Of any client to any backend, by direct server return. */
const DIRECT: readonly LabWay<DirectForwarding>[] = (["l2", "ipip", "gue", "gue1", "gre"] as const).flatMap((forwarding) =>
  ([4, 6] as const).map((backendFamily) => ({ forwarding, backendFamily })));

/** Of clients to backends of their family, and back. */
const TRANSLATED: readonly LabWay<TranslatedForwarding>[] = (["nat", "fullnat"] as const).flatMap((forwarding) =>
  ([4, 6] as const).map((backendFamily) => ({ forwarding, backendFamily })));

/** By the names that the tests use. */
export const LAB_WAYS = {
  DIRECT, TRANSLATED,
  TUNNELS: DIRECT.filter(({ forwarding }) => forwarding !== "l2"),
  MUTUAL: DIRECT.filter(({ forwarding, backendFamily }) => forwarding === "l2" && backendFamily === 4),
} as const satisfies Readonly<Record<string, readonly LabWay[]>>;

/** "ipip/6". */
export function wayName({ forwarding, backendFamily }: LabWay): string {
  return `${forwarding}/${backendFamily}`;
}

/** What a test shows, for every way of its list, and for virtual addresses of both families where those may differ. */
export interface LabShown {
  readonly what: string;
  readonly protocols: readonly ("TCP" | "UDP" | "ICMP")[];
  readonly ways: keyof typeof LAB_WAYS;
  /** Of one family alone. */
  readonly clients?: "IPv4";
  /** In test/kernel. */
  readonly file: string;
  /** As it stands in the file. */
  readonly test: string;
}

const BOTH = ["TCP", "UDP"] as const;

export const LAB_SHOWN: readonly LabShown[] = [
  {
    what: "client and backends on one network", protocols: ["TCP"], ways: "DIRECT",
    file: "lab_forwarding.test.ts", test: "spreads TCP connections over all backends and loses none",
  },
  {
    what: "client and backends on one network", protocols: ["UDP"], ways: "DIRECT",
    file: "lab_forwarding.test.ts", test: "spreads datagrams over all backends and loses none",
  },
  {
    what: "client and backends on either side of two interfaces, in by one and out by the other or the same",
    protocols: BOTH, ways: "DIRECT",
    file: "lab_interfaces.test.ts", test: "connections and datagrams to %s reach the backends of both networks",
  },
  {
    what: "client on a backend's own host: it meets itself", protocols: BOTH, ways: "DIRECT",
    file: "lab_interfaces.test.ts", test: "a client on a backend meets that backend at %s, and no balancer",
  },
  {
    what: "backend on the balancer itself, another one elsewhere", protocols: BOTH, ways: "DIRECT",
    file: "lab_local.test.ts", test: "takes its share of connections and datagrams to %s, long ones too",
  },
  {
    what: "two balancers that are each other's backends", protocols: BOTH, ways: "MUTUAL",
    file: "lab_local.test.ts", test: "share what comes to %s, and send it on once at most",
  },
  {
    what: "backends behind routers, each behind another one", protocols: BOTH, ways: "DIRECT",
    file: "lab_gateways.test.ts", test: "each leads to its backend",
  },
  {
    what: "a route changes to another router, connections being open", protocols: ["TCP"], ways: "DIRECT",
    file: "lab_gateways.test.ts", test: "a route by another one is followed while connections are open",
  },
  {
    what: "a router gets another link address, connections being open", protocols: ["TCP"], ways: "DIRECT",
    file: "lab_gateways.test.ts", test: "a new link address is followed while connections are open",
  },
  {
    what: "a router goes (`DROP_NO_NEIGHBOUR`) and comes back", protocols: BOTH, ways: "DIRECT",
    file: "lab_gateways.test.ts", test: "what is behind one that does not answer is dropped and counted, until it answers",
  },
  {
    what: "frames with one and with two VLAN tags, in and out", protocols: BOTH, ways: "DIRECT",
    file: "lab_vlans.test.ts", test: "$protocol to $vip with $count tags arrives with them",
  },
  {
    what: "frames with one and with two VLAN tags, and answers with none, one and two", protocols: BOTH, ways: "TRANSLATED",
    file: "lab_vlans_nat.test.ts", test: "$protocol with $count tags, and answers with none, one and two",
  },
  {
    what: "path MTU discovery: 1 MB with DF to a client behind a link of 1400 bytes", protocols: ["TCP"], ways: "DIRECT",
    file: "lab_path_mtu.test.ts", test: "1 MB from %s arrives, once each backend was told",
  },
  {
    what: "path MTU discovery: 1 MB with DF into a tunnel without room", protocols: ["TCP"], ways: "TUNNELS",
    file: "lab_path_mtu.test.ts", test: "1 MB to %s arrives, once the client was told",
  },
  {
    what: "datagrams of 8 KB in fragments into a tunnel without room", protocols: ["UDP"], ways: "TUNNELS",
    file: "lab_may_fragment.test.ts", test: "8 KB to %s arrive, once the client was told by its first fragments",
  },
  {
    what: "packets of IPv4 without DF into a tunnel without room", protocols: BOTH, ways: "TUNNELS", clients: "IPv4",
    file: "lab_may_fragment.test.ts", test: "datagrams and 1 MB without DF arrive, once the client was told",
  },
  {
    what: "datagrams of 8 KB, in fragments both ways", protocols: ["UDP"], ways: "DIRECT",
    file: "lab_fragments.test.ts", test: "8 KB to %s arrive and come back, from every backend",
  },
  {
    what: "client and backends on one network", protocols: BOTH, ways: "TRANSLATED",
    file: "lab_nat.test.ts", test: "spreads connections and datagrams over all backends and loses none",
  },
  {
    what: "iperf3, up and down", protocols: BOTH, ways: "DIRECT",
    file: "lab_tools.test.ts", test: "iperf3 to %s by TCP and UDP, up and down",
  },
  {
    what: "ping of iputils: the virtual address answers", protocols: ["ICMP"], ways: "DIRECT",
    file: "lab_tools.test.ts", test: "ping hears %s, small and large",
  },
  {
    what: "iperf3, up and down", protocols: BOTH, ways: "TRANSLATED",
    file: "lab_tools.test.ts", test: "iperf3 to %s by TCP and UDP, up and down",
  },
  {
    what: "ping of iputils: the virtual address answers", protocols: ["ICMP"], ways: "TRANSLATED",
    file: "lab_tools.test.ts", test: "ping hears %s, small and large",
  },
  {
    what: "client on a backend, its own host among those that it meets", protocols: BOTH, ways: "TRANSLATED",
    file: "lab_nat.test.ts", test: "a client on a backend meets every backend, its own host among them",
  },
  {
    what: "clients on one interface, backends on another, one of them behind a router", protocols: BOTH, ways: "TRANSLATED",
    file: "lab_nat_topologies.test.ts", test: "connections and datagrams reach the backends of either network and come back",
  },
  {
    what: "1 MB down and up by two interfaces, and a router", protocols: ["TCP"], ways: "TRANSLATED",
    file: "lab_nat_topologies.test.ts", test: "keeps the bytes of a download and an upload",
  },
  {
    what: "a port that nobody has on any backend: the client is told", protocols: ["UDP"], ways: "TRANSLATED",
    file: "lab_nat_topologies.test.ts", test: "an ICMP error of a backend reaches the client as one of the virtual address's",
  },
  {
    what: "a time to live that ends at a router behind the balancer: the client is told", protocols: ["UDP"], ways: "TRANSLATED",
    file: "lab_nat_topologies.test.ts", test: "an ICMP error of a router behind the balancer reaches the client",
  },
  {
    what: "20 MB down and up", protocols: ["TCP"], ways: "TRANSLATED",
    file: "lab_nat.test.ts", test: "keeps the bytes of a large download and a large upload",
  },
  {
    what: "datagrams of 8 KB, in fragments both ways", protocols: ["UDP"], ways: "TRANSLATED",
    file: "lab_nat.test.ts", test: "8 KB arrive and come back in pieces, from every backend",
  },
  {
    what: "path MTU discovery: 1 MB with DF to a client behind a link of 1400 bytes", protocols: ["TCP"], ways: "TRANSLATED",
    file: "lab_nat.test.ts", test: "1 MB to a client behind a narrow link arrives, once each backend was told",
  },
  {
    what: "one port of a client, two virtual addresses, one backend", protocols: ["UDP"], ways: "TRANSLATED",
    file: "lab_nat.test.ts", test: "one port of a client meets two virtual addresses, and each answers for itself",
  },
  {
    what: "kill -9 of the supervisor and adoption, connections being open", protocols: ["TCP"], ways: "TRANSLATED",
    file: "lab_nat.test.ts", test: "open connections outlive the supervisor, and end with their timeouts",
  },
  {
    what: "generic XDP: connections, datagrams, those of 8 KB in fragments, 1 MB down and up, ping; changed live",
    protocols: [...BOTH, "ICMP"],
    ways: "DIRECT", file: "lab_generic.test.ts",
    test: "carries everything by $forwarding to IPv$backendFamily in generic mode",
  },
  {
    what: "generic XDP: the same by translation", protocols: [...BOTH, "ICMP"],
    ways: "TRANSLATED", file: "lab_generic.test.ts",
    test: "carries everything by $forwarding to IPv$backendFamily, and back, in generic mode",
  },
];

/** One column for each way of forwarding, with the families of backends. */
export function coverageTable(): string {
  const modes = [...new Set(Object.values(LAB_WAYS).flatMap((ways) => ways.map(({ forwarding }) => forwarding)))];
  const rows = LAB_SHOWN.map(({ what, protocols, ways, clients: only, file, test }) => {
    const clients = only ?? (ways === "TRANSLATED" ? "as backends" : "IPv4, IPv6");
    const cells = modes.map((mode) => LAB_WAYS[ways].filter(({ forwarding }) => forwarding === mode)
      .map(({ backendFamily }) => `IPv${backendFamily}`).join(", "));
    return `| ${[what, protocols.join(", "), clients, ...cells, `\`test/kernel/${file}\`: ${test}`].join(" | ")} |`;
  });
  return [
    `| what | protocols | clients | ${modes.map((mode) => `\`${mode}\` to`).join(" | ")} | shown by |`,
    `|${"---|".repeat(modes.length + 4)}`, ...rows,
  ].join("\n");
}
