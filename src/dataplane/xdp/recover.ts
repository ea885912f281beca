// Reads back what a live plane's maps hold: the state that adoption starts from. A grace period has passed
// since their last owner wrote, so nothing that is idle is being read. Knows maps; must never write.

import { contentKey } from "../../model/ring_content.ts";
import type { SlotScheme } from "../../model/slot.ts";
import { recoveredStates, type PublishedSlots } from "../../model/slot_states.ts";
import { assignedText, policyText, type AssignedAddress, type PolicyImage } from "./image.ts";
import type { Feature } from "./program_features.ts";
import { addressFromBytes } from "../../model/address.ts";
import { AddressKey, SlotWord } from "./abi.gen.ts";
import { decodeLinkAddress, linkAddressText } from "./interfaces.ts";
import {
  emptyState, publishedRings, ringText, type HeldScheme, type HeldService, type HeldVersion, type KernelState,
} from "./kernel_state.ts";
import { recordGroups } from "./group_plan.ts";
import {
  decodeAddressPrefix, decodeGroupEntry, decodePolicy, decodeServiceKey, decodeU32, decodeWildcardKey,
} from "./map_values.ts";
import { entriesOf, walk, type PlaneMaps } from "./maps.ts";
import type { Pins } from "./pins.ts";
import { decodeQuicConfig, decodeQuicServer, quicConfigText, quicServerText } from "./quic_maps.ts";
import type { Capacities } from "./steps.ts";
import { isShownWith, regionServiceText } from "./region_state.ts";
import { decodeTunnelEnd, tunnelEndText } from "./tunnel_ends.ts";

export interface RecoverOptions {
  readonly capacities: Capacities;
  readonly features: ReadonlySet<Feature>;
  readonly rings: ReturnType<Pins["rings"]>;
  readonly assigned: readonly AssignedAddress[];
}

export function recoverState(maps: PlaneMaps, options: RecoverOptions): KernelState {
  const state = emptyState(options.capacities, options.features);
  for (const { ringClass, id } of options.rings) {
    state.rings.set(ringText(ringClass, id), { ringClass, id, key: null, mark: 0 });
  }
  recoverServices(maps, state);
  recoverDestinations(maps, state);
  for (const { key, value } of walk(maps.maps.policies)) {
    const { index, entry } = decodePolicy(key, value);
    serviceAt(state, index).policy.set(policyText(entry), entry);
  }
  for (const { key, value } of walk(maps.maps.quic_configs)) {
    const config = decodeQuicConfig(key, value);
    state.quicConfigs.set(quicConfigText(config), config);
  }
  for (const { key, value } of walk(maps.maps.quic_servers)) {
    const server = decodeQuicServer(key, decodeU32(value));
    state.quicServers.set(quicServerText(server), server);
  }
  for (const { key, value } of entriesOf(maps.maps.tunnel_ends)) {
    const end = decodeTunnelEnd(key, value);
    state.tunnelEnds.set(tunnelEndText(end), end);
  }
  for (const { key } of entriesOf(maps.maps.virtual_addresses)) {
    const address = addressFromBytes(AddressKey.decode(key).address);
    state.virtualAddresses.set(address.text, address);
  }
  for (const { key, value } of walk(maps.maps.address_groups)) {
    const network = decodeAddressPrefix(key);
    state.prefixes.set(network.text, { network, group: decodeU32(value) });
  }
  for (const { key, value } of walk(maps.maps.group_services)) {
    const { group, entry } = decodeGroupEntry(key, value);
    recordGroups(state, { kind: "add-group-ports", group, entry });
  }
  for (const { key } of walk(maps.maps.devices)) state.devices.add(decodeU32(key));
  for (const { key } of entriesOf(maps.maps.link_addresses)) {
    const address = decodeLinkAddress(key);
    state.linkAddresses.set(linkAddressText(address), address);
  }
  for (const { key, value } of entriesOf(maps.maps.first_link_addresses)) {
    const address = decodeLinkAddress(value);
    if (address.ifindex !== 0) state.firstLinkAddresses.set(decodeU32(key), address);
  }
  for (const assigned of options.assigned) state.assigned.set(assignedText(assigned), assigned);
  state.orphan = maps.settings.readOrphan();
  state.icmpIntervalNs = maps.settings.readIcmpInterval();
  state.nat = maps.settings.readNat(options.capacities.natFlows);
  state.remember = maps.pace.read();
  recoverRings(maps, state);
  return state;
}

function serviceAt(state: KernelState, index: number): HeldService {
  const held = state.services.get(index)
    ?? { key: null, active: 0, versions: [null, null], policy: new Map<string, PolicyImage>(), mark: 0 };
  state.services.set(index, held);
  return held;
}

function recoverServices(maps: PlaneMaps, state: KernelState): void {
  const keys = [
    ...entriesOf(maps.maps.services).map(({ key, value }) => ({ key: decodeServiceKey(key), value })),
    ...entriesOf(maps.maps.wildcards).map(({ key, value }) => ({ key: decodeWildcardKey(key), value })),
  ];
  for (const { key, value } of keys) {
    const index = decodeU32(value);
    const held = serviceAt(state, index);
    held.key = key;
    held.active = maps.readActive(index);
    held.versions[held.active] = maps.readVersion(index, held.active);
    // The idle half may be half-written: what is there does not count.
  }
  recoverRegions(maps, state);
}

function recoverRegions(maps: PlaneMaps, state: KernelState): void {
  for (const [id, digest] of maps.regions.digests()) state.regionTables.set(id, { id, digest, mark: 0 });
  for (const { index, asked, name } of maps.regions.names()) {
    const key = state.services.get(asked)?.key ?? null;
    const held = serviceAt(state, index);
    // Left by somebody who died while the index changed hands.
    if (key === null || held.key !== null) continue;
    held.key = { ...key, region: { asked, name } };
    held.active = maps.readActive(index);
    held.versions[held.active] = maps.readVersion(index, held.active);
  }
  for (const of of maps.regions.leads()) {
    state.regionServices.set(regionServiceText(of), of);
    // Whoever let it come into force died before it counted.
    const held = of.version === null ? undefined : state.services.get(of.index);
    if (held !== undefined && isShownWith(state, of)) held.versions[of.version!] = maps.readVersion(of.index, of.version!);
  }
}

function recoverDestinations(maps: PlaneMaps, state: KernelState): void {
  for (let id = 1; id < state.capacities.destinations; id++) {
    const value = maps.readDestination(id);
    if (value !== null) state.destinations.set(id, { ...value, mark: 0, hopMark: 0 });
  }
}

/** Only a ring that is shown is known to be whole. */
function recoverRings(maps: PlaneMaps, state: KernelState): void {
  const shown = publishedRings(state);
  for (const { versions, active } of state.services.values()) {
    const version = versions[active];
    if (version === null) continue;
    for (const scheme of version.predecessor === null ? [version.scheme] : [version.scheme, version.predecessor]) {
      const text = ringText(scheme.ringClass, scheme.ringId);
      const held = state.rings.get(text);
      if (held === undefined || held.key !== null || !shown.has(text)) continue;
      held.key = contentKey(slotsIn(maps, scheme));
    }
  }
}

function slotsIn(maps: PlaneMaps, { ringClass, ringId, ringSize }: HeldScheme): Uint16Array {
  return maps.ring(ringClass, ringId).slice(0, ringSize);
}

/** What packets are sent by: the slots with their marks, and whose they were when the window opened. */
export function publishedSlots(maps: PlaneMaps, version: HeldVersion, generation: number): PublishedSlots {
  const words = slotsIn(maps, version.scheme);
  const { predecessor, tracking, flowIdleMs, rememberedSinceNs } = version;
  const owners = words.map((word) => word & SlotWord.SLOT_BACKEND_MASK);
  const marks = Uint8Array.from(words, (word) => (word & SlotWord.SLOT_EXCEPTION) === 0 ? 0 : 1);
  return {
    scheme: schemeOf(version.scheme), owners, tracking, flowIdleMs, rememberedSinceNs,
    states: recoveredStates({
      exceptional: marks.includes(1) ? marks : null,
      predecessor: predecessor === null ? null : { scheme: schemeOf(predecessor), owners: slotsIn(maps, predecessor) },
      isRehashed: version.isRehashed, changingUntilNs: version.changingUntilNs,
    }, words.length, generation),
  };
}

function schemeOf({ hashSeed, hashInput, ringSize, ...prefix }: HeldScheme): SlotScheme {
  return {
    hashSeed, hash: hashInput, ringSize,
    sourcePrefix: { ipv4: prefix.sourcePrefixIpv4, ipv6: prefix.sourcePrefixIpv6 },
  };
}

/** The flow-hash seed that the services share, or null when there is none. */
export function seedOf(state: KernelState): bigint | null {
  for (const { key, versions, active } of state.services.values()) {
    const version = key === null ? null : versions[active];
    if (version !== null) return version.scheme.hashSeed;
  }
  return null;
}
