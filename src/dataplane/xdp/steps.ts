// Steps: everything that is ever done to a live plane, as data. Each is small enough to have happened
// or not, and diff.ts puts them in an order whose every prefix is safe. Knows no maps: apply.ts has
// one action per kind, and a kind without one does not compile.

import type { Address, Prefix } from "../../model/address.ts";
import { formatTunnelSource } from "../../model/tunnel_source.ts";
import type { OrphanAction } from "../../model/config.ts";
import type { NatTable } from "../../model/nat.ts";
import { REMEMBER_KINDS, type RememberPace } from "../../model/remember_pace.ts";
import type { StepDescription } from "../dataplane.ts";
import { portPrefixText, type GroupEntry } from "./groups.ts";
import {
  serviceKeyText, type AssignedAddress, type DestinationImage, type DestinationRights, type NextHop, type PolicyImage,
  type RingImage, type ServiceKey,
} from "./image.ts";
import type { Feature } from "./program_features.ts";
import type { RingClass } from "./ring_class.ts";
import { linkAddressText, type LinkAddress } from "./interfaces.ts";
import { ringsOfVersion, type HeldVersion } from "./kernel_state.ts";
import type { QuicConfigImage, QuicServerImage } from "./quic_maps.ts";
import type { RegionPrefixes } from "../../model/regions.ts";
import type { HeldRegionService } from "./region_state.ts";
import { tunnelEndText, type TunnelEndImage } from "./tunnel_ends.ts";

/** How much the maps hold. */
export interface Capacities {
  readonly services: number;
  /** The largest id is one less. */
  readonly destinations: number;
  readonly flows: number;
  readonly fragments: number;
  /** Each has two entries. */
  readonly natFlows: number;
  /** Clients. */
  readonly affinities: number;
  readonly policies: number;
  /** Entries of all groups of wildcard services. */
  readonly groupEntries: number;
  readonly quicConfigs: number;
  readonly quicServers: number;
}

/** Rings of each class: every service may show two while the next ones are being written. */
export function ringsMax(capacities: Capacities): number {
  return Math.max(8, capacities.services * 4);
}

type Half = 0 | 1;

export type Step =
  /** Loads the program with these switches and room, moves what does not fit to larger maps, swaps the links. */
  | { readonly kind: "load-program"; readonly features: ReadonlySet<Feature>; readonly capacities: Capacities }
  /** Waits until no packet is under way that began before. */
  | { readonly kind: "grace-period" }
  | { readonly kind: "set-nat"; readonly nat: NatTable }
  /** `of`: position in REMEMBER_KINDS. */
  | { readonly kind: "set-remember-pace"; readonly of: number; readonly pace: RememberPace }
  | { readonly kind: "set-icmp-interval"; readonly intervalNs: bigint }
  | { readonly kind: "set-orphan"; readonly afterNs: bigint; readonly action: OrphanAction }
  | { readonly kind: "add-device" | "remove-device"; readonly ifindex: number }
  | { readonly kind: "add-link-address" | "remove-link-address"; readonly address: LinkAddress }
  | { readonly kind: "set-first-link-address"; readonly place: number; readonly address: LinkAddress | null }
  | { readonly kind: "zero-destination-traffic"; readonly id: number }
  /** All of an element that nothing refers to. */
  | { readonly kind: "write-destination"; readonly id: number; readonly destination: DestinationImage }
  | { readonly kind: "set-destination-flags"; readonly id: number } & DestinationRights
  | { readonly kind: "set-pick-weight"; readonly id: number; readonly weight: number }
  | { readonly kind: "write-next-hop"; readonly id: number; readonly half: Half; readonly nextHop: NextHop }
  | { readonly kind: "activate-next-hop"; readonly id: number; readonly half: Half }
  | { readonly kind: "write-tunnel-source"; readonly id: number; readonly source: Prefix | null }
  /** Nobody's from now on; flows that remember `generation - 1` no longer match. */
  | { readonly kind: "retire-destination"; readonly id: number; readonly generation: number }
  | { readonly kind: "create-ring" | "release-ring"; readonly ringClass: RingClass; readonly id: number }
  | { readonly kind: "write-ring"; readonly ringClass: RingClass; readonly id: number; readonly ring: RingImage }
  /** All of a table that no version names. */
  | { readonly kind: "write-region-table"; readonly id: number; readonly digest: bigint; readonly prefixes: RegionPrefixes }
  | { readonly kind: "release-region-table"; readonly id: number }
  | { readonly kind: "add-region-service" | "remove-region-service"; readonly of: HeldRegionService }
  | { readonly kind: "zero-service-traffic"; readonly index: number }
  | { readonly kind: "write-version"; readonly index: number; readonly version: Half; readonly value: HeldVersion }
  | { readonly kind: "activate-version"; readonly index: number; readonly version: Half }
  | { readonly kind: "add-service" | "remove-service"; readonly index: number; readonly key: ServiceKey }
  | {
      readonly kind: "add-policy" | "remove-policy"; readonly index: number; readonly text: string;
      readonly entry: PolicyImage;
    }
  /** Of a group that no prefix leads to. */
  | {
      readonly kind: "add-group-ports" | "remove-group-ports"; readonly group: number;
      readonly entry: GroupEntry;
    }
  /** From now on the addresses of this prefix, as far as no longer one holds them, have this group. */
  | { readonly kind: "set-address-group"; readonly network: Prefix; readonly group: number }
  | { readonly kind: "remove-address-group"; readonly network: Prefix }
  | { readonly kind: "write-quic-config" | "remove-quic-config"; readonly config: QuicConfigImage }
  | { readonly kind: "write-quic-server" | "remove-quic-server"; readonly server: QuicServerImage }
  /** Errors about this tunnel are known for what they are. */
  | { readonly kind: "write-tunnel-end" | "remove-tunnel-end"; readonly end: TunnelEndImage }
  | { readonly kind: "add-virtual-address" | "remove-virtual-address"; readonly address: Address }
  | { readonly kind: "assign-address" | "unassign-address"; readonly assigned: AssignedAddress };

export type StepKind = Step["kind"];

/** Steps after which packets go another way. */
export const PUBLISHES: ReadonlySet<StepKind> = new Set([
  "activate-version", "add-service", "remove-service", "add-region-service", "remove-region-service", "set-destination-flags",
  "activate-next-hop",
]);

/** What is done to what, for logs and `plan`. */
export function describeStep(step: Step): StepDescription {
  const { object, detail } = words(step);
  return { action: step.kind, object, detail };
}

function words(step: Step): { object: string; detail: string } {
  switch (step.kind) {
    case "load-program": return {
      object: "program", detail: [...step.features].sort().join(", ") || "no feature",
    };
    case "grace-period": return { object: "all CPUs", detail: "until no packet is under way that began before" };
    case "set-icmp-interval": return { object: "settings", detail: `an ICMP error every ${step.intervalNs} ns` };
    case "set-remember-pace": return {
      object: `pace of ${REMEMBER_KINDS[step.of]}`, detail: `a flow is remembered every ${step.pace.intervalNs} ns`,
    };
    case "set-nat": return { object: "settings", detail: natDetail(step.nat) };
    case "set-orphan": return { object: "settings", detail: `${step.action} after ${step.afterNs / 1_000_000n} ms` };
    case "add-device": case "remove-device": return { object: `interface ${step.ifindex}`, detail: "" };
    case "add-link-address": case "remove-link-address": return {
      object: `interface ${step.address.ifindex}`, detail: `frames to ${step.address.mac ?? "no other address"}`,
    };
    case "set-first-link-address": return {
      object: `first link address ${step.place}`, detail: step.address === null ? "none" : linkAddressText(step.address),
    };
    case "create-ring": case "release-ring": return { object: `ring ${step.ringClass} ${step.id}`, detail: "" };
    case "write-ring": return {
      object: `ring ${step.ringClass} ${step.id}`, detail: `${step.ring.size} slots, ${step.ring.key.slice(0, 12)}`,
    };
    case "add-service": case "remove-service": return {
      object: serviceKeyText(step.key), detail: `index ${step.index}`,
    };
    case "add-policy": case "remove-policy": return {
      object: `service ${step.index}`, detail: `${step.entry.action} ${step.text}`,
    };
    case "write-version": return {
      object: `service ${step.index}`,
      detail: `version ${step.version}: ring ${ringsOfVersion(step.value).join(", before it ")}`,
    };
    case "activate-version": return { object: `service ${step.index}`, detail: `version ${step.version}` };
    case "write-quic-config": case "remove-quic-config": {
      const { index, id, mode, serverIdBytes, plaintextBytes } = step.config;
      const lengths = `server ID of ${serverIdBytes} of ${plaintextBytes} bytes`;
      return { object: `service ${index}`, detail: `connection IDs ${id}: ${mode}, ${lengths}` };
    }
    case "write-quic-server": case "remove-quic-server": return {
      object: `service ${step.server.index}`,
      detail: `server ID ${step.server.serverId} is destination ${step.server.destination}`,
    };
    case "write-tunnel-end": case "remove-tunnel-end": return {
      object: `tunnel to ${tunnelEndText(step.end)}`, detail: `destination ${step.end.destination}`,
    };
    case "write-region-table": return {
      object: `regions ${step.id}`, detail: `${step.prefixes.size} prefixes, ${step.digest.toString(16)}`,
    };
    case "release-region-table": return { object: `regions ${step.id}`, detail: "" };
    case "add-region-service": case "remove-region-service": return {
      object: `service ${step.of.asked}`, detail: `region ${step.of.region} of regions ${step.of.table} to service ${step.of.index}${
        step.of.version === null ? "" : ` version ${step.of.version}`}`,
    };
    case "zero-service-traffic": return { object: `service ${step.index}`, detail: "" };
    case "add-group-ports": case "remove-group-ports": return {
      object: `group ${step.group}`, detail: `${portPrefixText(step.entry)} to service ${step.entry.index}`,
    };
    case "set-address-group": return { object: step.network.text, detail: `group ${step.group}` };
    case "remove-address-group": return { object: step.network.text, detail: "" };
    case "add-virtual-address": case "remove-virtual-address": return { object: step.address.text, detail: "" };
    case "assign-address": case "unassign-address": return {
      object: step.assigned.address.text, detail: `on ${step.assigned.on}`,
    };
    default: return { object: `destination ${step.id}`, detail: destinationDetail(step) };
  }
}

function natDetail({ ports: { first, count }, sources }: NatTable): string {
  const addresses = [...sources.ipv4, ...sources.ipv6].map(({ text }) => text).join(", ");
  return `translated ports ${first}-${first + count - 1} of ${addresses === "" ? "this host" : addresses}`;
}

function rightsText({ live, admits, resets }: DestinationRights): string {
  if (live) return admits ? "live" : "live, no new flows";
  return resets ? "not live, connections are reset" : "not live";
}

function destinationDetail(step: Extract<Step, { readonly id: number }>): string {
  switch (step.kind) {
    case "write-destination": return `${step.destination.forwarding} to ${step.destination.address.text}`;
    case "set-destination-flags": return rightsText(step);
    case "set-pick-weight": return `flows are compared by weight ${step.weight}`;
    case "write-next-hop": return step.nextHop.resolved
      ? `${step.nextHop.destinationMac} on interface ${step.nextHop.ifindex}${vlanDetail(step.nextHop)}`
      : step.nextHop.local ? "this host itself" : "unresolved";
    case "activate-next-hop": return `next hop ${step.half}`;
    case "write-tunnel-source": return step.source === null ? "none" : formatTunnelSource(step.source);
    default: return "";
  }
}

function vlanDetail({ vlan }: NextHop): string {
  if (vlan === "none") return ", untagged";
  return vlan === 0 ? "" : `, VLAN ${vlan}`;
}
