// What the golden packets have to cover: each verdict, in every way of forwarding, family of addresses and protocol that
// it can meet. The verdict enum is the list; what cannot be is written down here, with the reason. Knows the golden
// world and how packets are read; runs nothing.

import { VERDICT_NAMES } from "../../src/dataplane/xdp/abi.gen.ts";
import type { VerdictName } from "../../src/model/decide.ts";
import { parsePacket } from "../../src/model/packet.ts";
import { serviceOf } from "../../src/model/service_lookup.ts";
import type { ForwardingTable, Service } from "../../src/model/table.ts";
import type { Golden, GoldenCase } from "./golden_packets.ts";

/** Tunnels with the family of their outer header; the others go as they are. */
const TUNNELS = ["ipip4", "ipip6", "gue4", "gue6", "gue1-4", "gue1-6", "gre4", "gre6"] as const;
const TRANSLATED = ["nat", "fullnat"] as const;
const WAYS = ["l2", ...TUNNELS, ...TRANSLATED] as const;
const FAMILIES = [4, 6] as const;
const PROTOCOLS = ["tcp", "udp"] as const;
const PROTOCOL_NAMES: Readonly<Record<number, string>> = { 6: "tcp", 17: "udp" };

/** How much is known of a packet when a verdict is reached: nothing that matters, or this and what stands before it. */
type Scope = "frame" | "family" | "protocol" | "way" | "tunnel";

/** Those that are reached before the service is known; all others know the way. */
const SCOPES: Partial<Record<VerdictName, Scope>> = {
  PASS_NOT_IP: "frame",
  PASS_OTHER_HOST: "frame",
  PASS_MALFORMED: "family",
  PASS_NOT_OURS: "protocol",
  PASS_TRUNCATED: "protocol",
  // The protocol of a later fragment of IPv6 stands in the first one alone.
  PASS_FRAGMENT: "family",
  PASS_ICMP: "family",
  PASS_PROTOCOL: "family",
  TX_ECHO_REPLY: "family",
  // Eight bytes behind the outer header do not say what is inside, nor which variant of gue it is.
  DROP_TUNNEL_ERROR: "tunnel",
};

export interface Impossible {
  readonly verdicts: readonly VerdictName[];
  readonly because: string;
  readonly is: (way: (typeof WAYS)[number], family: 4 | 6, protocol: (typeof PROTOCOLS)[number]) => boolean;
}

function isTranslated(way: string): boolean {
  return TRANSLATED.some((each) => each === way);
}

export const IMPOSSIBLE: readonly Impossible[] = [
  {
    verdicts: ["TX_REPLY", "DROP_NO_PORT", "DROP_NAT_FULL"], is: (way) => !isTranslated(way),
    because: "behind direct server return backends answer by themselves, and no flow needs a port",
  },
  {
    verdicts: ["TX_RESET"], is: (way, _family, protocol) => !isTranslated(way) || protocol !== "tcp",
    because: "only translated connections can be reset: of others this host sees one direction",
  },
  {
    verdicts: ["PASS_LOCAL"], is: isTranslated,
    because: "answers of this host itself would not be translated, so it has no way to itself (DROP_NO_NEIGHBOUR)",
  },
  {
    verdicts: ["DROP_NO_ROOM"], is: (way) => way === "l2" || isTranslated(way),
    because: "nothing is put around the packet",
  },
  {
    verdicts: ["DROP_NO_ROOM"], is: (way, family) => way === "ipip6" && family === 4,
    because: "the longest IPv4 packet has the length of the longest payload of IPv6",
  },
];

/** "TX_FORWARDED ipip4 v6 udp" and the like: all that there has to be a golden packet for. */
export function wanted(): string[] {
  return VERDICT_NAMES.slice(1, -1).flatMap((name) => {
    const verdict = name as VerdictName;
    switch (SCOPES[verdict] ?? "way") {
      case "frame": return [verdict];
      case "family": return FAMILIES.map((family) => `${verdict} v${family}`);
      case "protocol": return FAMILIES.flatMap((family) => PROTOCOLS.map((protocol) => `${verdict} v${family} ${protocol}`));
      case "tunnel": return FAMILIES.flatMap((family) => ["ipip", "gre", "gue"].map((way) => `${verdict} ${way}${family}`));
      case "way": return possible(verdict);
    }
  });
}

function possible(verdict: VerdictName): string[] {
  return WAYS.flatMap((way) => FAMILIES.flatMap((family) => PROTOCOLS
    .filter((protocol) => !IMPOSSIBLE.some(({ verdicts, is }) => verdicts.includes(verdict) && is(way, family, protocol)))
    .map((protocol) => `${verdict} ${way} v${family} ${protocol}`)));
}

/** The same of a case. What it is about stands in the packet itself, or in the one that came before it. */
export function coveredBy(one: GoldenCase, table: ForwardingTable): string {
  const { verdict, frame, before } = one;
  const packet = parsePacket(frame);
  const scope = SCOPES[verdict] ?? "way";
  if (scope === "way") {
    // What a backend sends may go to an address that is a virtual one as well.
    const itself = verdict === "TX_REPLY" || verdict === "TX_RESET" ? null : serviceIn(frame, table);
    const found = itself ?? (before === null ? null : serviceIn(before, table));
    if (found === null) return `${verdict} nobody's`;
    return `${verdict} ${wayOf(found.service, table)} v${found.family} ${found.service.config.protocol}`;
  }
  if (scope === "frame") return verdict;
  // What is malformed has a family in its name alone: the header that would say so is what is wrong.
  if (typeof packet === "string") return `${verdict} ${one.name.slice(0, 2)}`;
  if (scope === "family") return `${verdict} v${packet.family}`;
  if (scope === "protocol") return `${verdict} v${packet.family} ${PROTOCOL_NAMES[packet.protocol] ?? "other"}`;
  return `${verdict} ${{ 4: "ipip", 41: "ipip", 47: "gre", 17: "gue" }[packet.protocol] ?? "no"}${packet.family}`;
}

function serviceIn(frame: Uint8Array, table: ForwardingTable): { readonly service: Service; readonly family: 4 | 6 } | null {
  const packet = parsePacket(frame);
  if (typeof packet === "string") return null;
  const service = serviceOf(table, packet.destination, packet.destinationPort, packet.protocol);
  return service === null ? null : { service, family: packet.family };
}

function wayOf({ config, destinations: [id = 0] }: Service, table: ForwardingTable): string {
  const destination = table.destinations.get(id);
  if (destination === undefined) return config.forwarding;
  const { forwarding, gue, address } = destination;
  if (forwarding === "l2" || isTranslated(forwarding)) return forwarding;
  return `${forwarding}${gue?.variant === 1 ? "1-" : ""}${address.family}`;
}

/** What is missing, and what is there although it was said to be impossible. */
export function gaps({ cases, table }: Pick<Golden, "cases" | "table">): { missing: string[]; impossible: string[] } {
  const world = table("keep");
  const covered = new Set(cases.map((one) => coveredBy(one, world)));
  const all = wanted();
  const impossible = IMPOSSIBLE.flatMap(({ verdicts, is }) => verdicts.flatMap((verdict) => WAYS.flatMap((way) =>
    FAMILIES.flatMap((family) => PROTOCOLS.filter((protocol) => is(way, family, protocol))
      .map((protocol) => `${verdict} ${way} v${family} ${protocol}`)))));
  return {
    missing: all.filter((each) => !covered.has(each)),
    impossible: impossible.filter((each) => covered.has(each)),
  };
}
