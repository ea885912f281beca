// A program with all of its switches off but those for l2 and one class of rings, and tables that need no more. Knows
// the switches by name.

import { NO_NAT } from "../../src/model/nat.ts";
import { SETTLED } from "../../src/model/slot_states.ts";
import { fixedSource } from "../../src/model/tunnel_source.ts";
import type { RandomWorld } from "./random_tables.ts";

/** What lean() leaves to be used. */
export const LEAN_SWITCHES: Readonly<Record<string, boolean>> = {
  feature_ipip: false,
  feature_gue: false,
  feature_gre: false,
  feature_nat: false,
  feature_mss_clamp: false,
  feature_tunnel_variation: false,
  feature_wildcard: false,
  feature_tracking: false,
  feature_pick: false,
  feature_minimal: false,
  feature_sample: false,
  feature_policy: false,
  feature_source_hash: false,
  feature_orphan: false,
  feature_quic_lb: false,
  feature_icmp_errors: false,
  feature_tunnel_errors: false,
  ring_class_small: false,
  ring_class_large: false,
};

/** The same table without what a lean program cannot do. */
export function lean(world: RandomWorld): RandomWorld {
  const destinations = [...world.table.destinations].map(([id, destination]) => {
    return [id, { ...destination, forwarding: "l2", gue: null }] as const;
  });
  const services = world.table.services.map((service) => {
    const { network: { address }, ports } = service.config;
    const exact = { network: fixedSource(address), ports: { from: ports.from, to: ports.from } };
    const config = { ...service.config, ...exact, tracking: "none", hash: "5-tuple", forwarding: "l2", mssMax: null } as const;
    return { ...service, quicLb: null, states: SETTLED, affinity: null, picking: null, failedOpen: false,
      config: { ...config, policy: { allow: [], deny: [] } } };
  });
  const orphan = { afterMs: 0, action: "keep" } as const;
  const table = {
    ...world.table, services, nat: NO_NAT, orphan, icmpErrorsPerSecond: 0, pathMtuAgeMs: 0,
    destinations: new Map(destinations),
  };
  return { ...world, table, natFlows: [], replies: () => [] };
}
