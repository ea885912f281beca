// Generated from bpf/abi.h by scripts/generate.ts, out of the BTF of the compiled programs: do not edit,
// run "npm run generate". Offsets, sizes and byte order are the compiler's; encode and decode
// refuse any other size and any value that its field cannot hold.

import * as codec from "./abi_codec.ts";

/** The structs and enums that bpf/abi.h declares: what the fingerprint is taken over. */
export const ABI_NAMES = {
  structs: [
    "address_key", "address_prefix", "affinity_key", "answer_count", "destination", "flow_entry",
    "flow_key", "fragment_entry", "fragment_key", "link_address", "nat_flow", "next_hop",
    "pick_state", "policy_key", "port_prefix", "probe_key", "probe_path", "quic_config",
    "quic_config_key", "quic_server_key", "region_block", "region_key", "region_name",
    "region_service", "region_start", "remember_pace", "service_key", "service_version",
    "settings", "slot_scheme", "traffic_count", "tunnel_end", "verdict_count", "wildcard_key",
  ],
  enums: [
    "decap_verdict", "destination_flags", "flow_event", "flow_other", "forwarding", "gue_variant",
    "hash_input", "link_places", "nat_flags", "nat_outcome", "nat_sources_at", "next_hop_flags",
    "next_hop_vlan", "orphan_action", "pick", "policy_action", "quic_mode", "quic_outcome",
    "region", "region_fanout", "remember_kind", "ring_class", "ring_slots", "sample",
    "service_flags", "slot_word", "tracking", "tracking_outcome", "verdict",
  ],
} as const;

/** Fingerprint of the main program's structs, enums and maps; a map or an object with another one is not ours. */
export const ABI_FINGERPRINT = 0x18c9f3587e35be98n;

/** The same for each object file; small programs know only a part of the types. */
export const FINGERPRINTS = {
  decap: 0x2dd71eb114365ff7n,
  pointsman: 0x18c9f3587e35be98n,
  probe: 0xbe919ebc442d3c31n,
} as const;

/** enum decap_verdict */
export const DecapVerdict = {
  DECAP_PASS_NOT_TUNNEL: 0,
  DECAP_PASS_MALFORMED: 1,
  DECAP_PASS_NOT_OURS: 2,
  DECAP_PASS_SOURCE: 3,
  DECAP_PASS_NOT_LOCAL: 4,
  DECAP_PASS_STRIPPED: 5,
  DECAP_PASS_OWNED: 6,
  DECAP_PASS_LAST: 7,
  DECAP_PASS_NO_WAY: 8,
  DECAP_PASS_ALTERNATE: 9,
  DECAP_TX_ALTERNATE: 10,
  DECAP_VERDICTS: 11,
} as const;
export type DecapVerdict = (typeof DecapVerdict)[keyof typeof DecapVerdict];
/** In the order of their declaration. */
export const DECAP_VERDICT_NAMES = [
  "DECAP_PASS_NOT_TUNNEL", "DECAP_PASS_MALFORMED", "DECAP_PASS_NOT_OURS", "DECAP_PASS_SOURCE",
  "DECAP_PASS_NOT_LOCAL", "DECAP_PASS_STRIPPED", "DECAP_PASS_OWNED", "DECAP_PASS_LAST",
  "DECAP_PASS_NO_WAY", "DECAP_PASS_ALTERNATE", "DECAP_TX_ALTERNATE", "DECAP_VERDICTS",
] as const satisfies readonly (keyof typeof DecapVerdict)[];

/** enum destination_flags */
export const DestinationFlags = {
  DESTINATION_LIVE: 1,
  DESTINATION_ADMITS: 2,
  DESTINATION_RESETS: 4,
} as const;
export type DestinationFlags = (typeof DestinationFlags)[keyof typeof DestinationFlags];
/** In the order of their declaration. */
export const DESTINATION_FLAGS_NAMES = [
  "DESTINATION_LIVE", "DESTINATION_ADMITS", "DESTINATION_RESETS",
] as const satisfies readonly (keyof typeof DestinationFlags)[];

/** enum flow_event */
export const FlowEvent = {
  FLOW_WRITTEN: 0,
  FLOW_FORGOTTEN: 1,
  FLOW_REFUSED: 2,
  FLOW_EVENTS: 3,
} as const;
export type FlowEvent = (typeof FlowEvent)[keyof typeof FlowEvent];
/** In the order of their declaration. */
export const FLOW_EVENT_NAMES = [
  "FLOW_WRITTEN", "FLOW_FORGOTTEN", "FLOW_REFUSED", "FLOW_EVENTS",
] as const satisfies readonly (keyof typeof FlowEvent)[];

/** enum flow_other */
export const FlowOther = {
  FLOW_OTHER_MASK: 32767,
  FLOW_CLOSES: 32768,
} as const;
export type FlowOther = (typeof FlowOther)[keyof typeof FlowOther];
/** In the order of their declaration. */
export const FLOW_OTHER_NAMES = [
  "FLOW_OTHER_MASK", "FLOW_CLOSES",
] as const satisfies readonly (keyof typeof FlowOther)[];

/** enum forwarding */
export const Forwarding = {
  FORWARDING_NONE: 0,
  FORWARDING_L2: 1,
  FORWARDING_IPIP: 2,
  FORWARDING_GUE: 3,
  FORWARDING_GRE: 4,
  FORWARDING_NAT: 5,
  FORWARDING_FULLNAT: 6,
} as const;
export type Forwarding = (typeof Forwarding)[keyof typeof Forwarding];
/** In the order of their declaration. */
export const FORWARDING_NAMES = [
  "FORWARDING_NONE", "FORWARDING_L2", "FORWARDING_IPIP", "FORWARDING_GUE", "FORWARDING_GRE",
  "FORWARDING_NAT", "FORWARDING_FULLNAT",
] as const satisfies readonly (keyof typeof Forwarding)[];

/** enum gue_variant */
export const GueVariant = {
  GUE_HEADER: 0,
  GUE_DIRECT: 1,
} as const;
export type GueVariant = (typeof GueVariant)[keyof typeof GueVariant];
/** In the order of their declaration. */
export const GUE_VARIANT_NAMES = [
  "GUE_HEADER", "GUE_DIRECT",
] as const satisfies readonly (keyof typeof GueVariant)[];

/** enum hash_input */
export const HashInput = {
  HASH_5_TUPLE: 0,
  HASH_SOURCE_IP: 1,
} as const;
export type HashInput = (typeof HashInput)[keyof typeof HashInput];
/** In the order of their declaration. */
export const HASH_INPUT_NAMES = [
  "HASH_5_TUPLE", "HASH_SOURCE_IP",
] as const satisfies readonly (keyof typeof HashInput)[];

/** enum link_places */
export const LinkPlaces = {
  FIRST_LINK_ADDRESSES: 4,
} as const;
export type LinkPlaces = (typeof LinkPlaces)[keyof typeof LinkPlaces];
/** In the order of their declaration. */
export const LINK_PLACES_NAMES = [
  "FIRST_LINK_ADDRESSES",
] as const satisfies readonly (keyof typeof LinkPlaces)[];

/** enum nat_flags */
export const NatFlags = {
  NAT_FIN: 1,
  NAT_RST: 4,
  NAT_ANSWERED: 64,
  NAT_REPLY: 128,
} as const;
export type NatFlags = (typeof NatFlags)[keyof typeof NatFlags];
/** In the order of their declaration. */
export const NAT_FLAGS_NAMES = [
  "NAT_FIN", "NAT_RST", "NAT_ANSWERED", "NAT_REPLY",
] as const satisfies readonly (keyof typeof NatFlags)[];

/** enum nat_outcome */
export const NatOutcome = {
  NAT_CLAIMED: 0,
  NAT_PORT_TRANSLATED: 1,
  NAT_TAKEN_OVER: 2,
  NAT_OUTCOMES: 3,
} as const;
export type NatOutcome = (typeof NatOutcome)[keyof typeof NatOutcome];
/** In the order of their declaration. */
export const NAT_OUTCOME_NAMES = [
  "NAT_CLAIMED", "NAT_PORT_TRANSLATED", "NAT_TAKEN_OVER", "NAT_OUTCOMES",
] as const satisfies readonly (keyof typeof NatOutcome)[];

/** enum nat_sources_at */
export const NatSourcesAt = {
  NAT_SOURCES_IPV4: 0,
  NAT_SOURCES_IPV6: 16,
  NAT_SOURCES_MAX: 32,
} as const;
export type NatSourcesAt = (typeof NatSourcesAt)[keyof typeof NatSourcesAt];
/** In the order of their declaration. */
export const NAT_SOURCES_AT_NAMES = [
  "NAT_SOURCES_IPV4", "NAT_SOURCES_IPV6", "NAT_SOURCES_MAX",
] as const satisfies readonly (keyof typeof NatSourcesAt)[];

/** enum next_hop_flags */
export const NextHopFlags = {
  NEXT_HOP_RESOLVED: 1,
  NEXT_HOP_LOCAL: 2,
} as const;
export type NextHopFlags = (typeof NextHopFlags)[keyof typeof NextHopFlags];
/** In the order of their declaration. */
export const NEXT_HOP_FLAGS_NAMES = [
  "NEXT_HOP_RESOLVED", "NEXT_HOP_LOCAL",
] as const satisfies readonly (keyof typeof NextHopFlags)[];

/** enum next_hop_vlan */
export const NextHopVlan = {
  VLAN_AS_RECEIVED: 0,
  VLAN_NONE: 4096,
} as const;
export type NextHopVlan = (typeof NextHopVlan)[keyof typeof NextHopVlan];
/** In the order of their declaration. */
export const NEXT_HOP_VLAN_NAMES = [
  "VLAN_AS_RECEIVED", "VLAN_NONE",
] as const satisfies readonly (keyof typeof NextHopVlan)[];

/** enum orphan_action */
export const OrphanAction = {
  ORPHAN_KEEP: 0,
  ORPHAN_PASS: 1,
  ORPHAN_DROP: 2,
} as const;
export type OrphanAction = (typeof OrphanAction)[keyof typeof OrphanAction];
/** In the order of their declaration. */
export const ORPHAN_ACTION_NAMES = [
  "ORPHAN_KEEP", "ORPHAN_PASS", "ORPHAN_DROP",
] as const satisfies readonly (keyof typeof OrphanAction)[];

/** enum pick */
export const Pick = {
  PICK_NONE: 0,
  PICK_ROUND_ROBIN: 1,
  PICK_RANDOM: 2,
  PICK_LEAST_CONNECTIONS: 3,
  PICK_POWER_OF_TWO: 4,
  PICK_BOUNDED_LOAD: 5,
} as const;
export type Pick = (typeof Pick)[keyof typeof Pick];
/** In the order of their declaration. */
export const PICK_NAMES = [
  "PICK_NONE", "PICK_ROUND_ROBIN", "PICK_RANDOM", "PICK_LEAST_CONNECTIONS", "PICK_POWER_OF_TWO",
  "PICK_BOUNDED_LOAD",
] as const satisfies readonly (keyof typeof Pick)[];

/** enum policy_action */
export const PolicyAction = {
  POLICY_NONE: 0,
  POLICY_ALLOW: 1,
  POLICY_DENY: 2,
} as const;
export type PolicyAction = (typeof PolicyAction)[keyof typeof PolicyAction];
/** In the order of their declaration. */
export const POLICY_ACTION_NAMES = [
  "POLICY_NONE", "POLICY_ALLOW", "POLICY_DENY",
] as const satisfies readonly (keyof typeof PolicyAction)[];

/** enum quic_mode */
export const QuicMode = {
  QUIC_PLAINTEXT: 0,
  QUIC_SINGLE_PASS: 1,
  QUIC_FOUR_PASS: 2,
} as const;
export type QuicMode = (typeof QuicMode)[keyof typeof QuicMode];
/** In the order of their declaration. */
export const QUIC_MODE_NAMES = [
  "QUIC_PLAINTEXT", "QUIC_SINGLE_PASS", "QUIC_FOUR_PASS",
] as const satisfies readonly (keyof typeof QuicMode)[];

/** enum quic_outcome */
export const QuicOutcome = {
  QUIC_ROUTED: 0,
  QUIC_NO_ID: 1,
  QUIC_NO_CONFIG: 2,
  QUIC_NO_SERVER: 3,
  QUIC_SERVER_DOWN: 4,
  QUIC_OUTCOMES: 5,
} as const;
export type QuicOutcome = (typeof QuicOutcome)[keyof typeof QuicOutcome];
/** In the order of their declaration. */
export const QUIC_OUTCOME_NAMES = [
  "QUIC_ROUTED", "QUIC_NO_ID", "QUIC_NO_CONFIG", "QUIC_NO_SERVER", "QUIC_SERVER_DOWN",
  "QUIC_OUTCOMES",
] as const satisfies readonly (keyof typeof QuicOutcome)[];

/** enum region */
export const Region = {
  REGION_NOWHERE: 0,
  REGIONS_MAX: 32,
} as const;
export type Region = (typeof Region)[keyof typeof Region];
/** In the order of their declaration. */
export const REGION_NAMES = [
  "REGION_NOWHERE", "REGIONS_MAX",
] as const satisfies readonly (keyof typeof Region)[];

/** enum region_fanout */
export const RegionFanout = {
  REGION_FANOUT: 16,
} as const;
export type RegionFanout = (typeof RegionFanout)[keyof typeof RegionFanout];
/** In the order of their declaration. */
export const REGION_FANOUT_NAMES = [
  "REGION_FANOUT",
] as const satisfies readonly (keyof typeof RegionFanout)[];

/** enum remember_kind */
export const RememberKind = {
  REMEMBER_TCP_OPENED: 0,
  REMEMBER_TCP_OTHER: 1,
  REMEMBER_UDP: 2,
  REMEMBER_KINDS: 3,
} as const;
export type RememberKind = (typeof RememberKind)[keyof typeof RememberKind];
/** In the order of their declaration. */
export const REMEMBER_KIND_NAMES = [
  "REMEMBER_TCP_OPENED", "REMEMBER_TCP_OTHER", "REMEMBER_UDP", "REMEMBER_KINDS",
] as const satisfies readonly (keyof typeof RememberKind)[];

/** enum ring_class */
export const RingClass = {
  RING_SMALL: 0,
  RING_MEDIUM: 1,
  RING_LARGE: 2,
  RING_CLASSES: 3,
} as const;
export type RingClass = (typeof RingClass)[keyof typeof RingClass];
/** In the order of their declaration. */
export const RING_CLASS_NAMES = [
  "RING_SMALL", "RING_MEDIUM", "RING_LARGE", "RING_CLASSES",
] as const satisfies readonly (keyof typeof RingClass)[];

/** enum ring_slots */
export const RingSlots = {
  RING_SMALL_SLOTS: 16384,
  RING_MEDIUM_SLOTS: 65540,
  RING_LARGE_SLOTS: 2097152,
} as const;
export type RingSlots = (typeof RingSlots)[keyof typeof RingSlots];
/** In the order of their declaration. */
export const RING_SLOTS_NAMES = [
  "RING_SMALL_SLOTS", "RING_MEDIUM_SLOTS", "RING_LARGE_SLOTS",
] as const satisfies readonly (keyof typeof RingSlots)[];

/** enum sample */
export const Sample = {
  SAMPLE_ONE_IN: 64,
} as const;
export type Sample = (typeof Sample)[keyof typeof Sample];
/** In the order of their declaration. */
export const SAMPLE_NAMES = [
  "SAMPLE_ONE_IN",
] as const satisfies readonly (keyof typeof Sample)[];

/** enum service_flags */
export const ServiceFlags = {
  SERVICE_DENY_BY_DEFAULT: 1,
  SERVICE_HAS_POLICY: 2,
  SERVICE_QUIC_LB: 4,
  SERVICE_NAT: 8,
  SERVICE_REHASHED: 16,
  SERVICE_SECOND_CHANCE: 32,
  SERVICE_FAILED_OPEN: 64,
} as const;
export type ServiceFlags = (typeof ServiceFlags)[keyof typeof ServiceFlags];
/** In the order of their declaration. */
export const SERVICE_FLAGS_NAMES = [
  "SERVICE_DENY_BY_DEFAULT", "SERVICE_HAS_POLICY", "SERVICE_QUIC_LB", "SERVICE_NAT",
  "SERVICE_REHASHED", "SERVICE_SECOND_CHANCE", "SERVICE_FAILED_OPEN",
] as const satisfies readonly (keyof typeof ServiceFlags)[];

/** enum slot_word */
export const SlotWord = {
  SLOT_BACKEND_MASK: 32767,
  SLOT_EXCEPTION: 32768,
} as const;
export type SlotWord = (typeof SlotWord)[keyof typeof SlotWord];
/** In the order of their declaration. */
export const SLOT_WORD_NAMES = [
  "SLOT_BACKEND_MASK", "SLOT_EXCEPTION",
] as const satisfies readonly (keyof typeof SlotWord)[];

/** enum tracking */
export const Tracking = {
  TRACKING_NONE: 0,
  TRACKING_FULL: 1,
  TRACKING_MINIMAL: 2,
} as const;
export type Tracking = (typeof Tracking)[keyof typeof Tracking];
/** In the order of their declaration. */
export const TRACKING_NAMES = [
  "TRACKING_NONE", "TRACKING_FULL", "TRACKING_MINIMAL",
] as const satisfies readonly (keyof typeof Tracking)[];

/** enum tracking_outcome */
export const TrackingOutcome = {
  TRACKING_FOLLOWED: 0,
  TRACKING_BEGAN: 1,
  TRACKING_KEPT: 2,
  TRACKING_LOST: 3,
  TRACKING_UNREMEMBERED: 4,
  TRACKING_SETTLED: 5,
  TRACKING_OUTCOMES: 6,
} as const;
export type TrackingOutcome = (typeof TrackingOutcome)[keyof typeof TrackingOutcome];
/** In the order of their declaration. */
export const TRACKING_OUTCOME_NAMES = [
  "TRACKING_FOLLOWED", "TRACKING_BEGAN", "TRACKING_KEPT", "TRACKING_LOST", "TRACKING_UNREMEMBERED",
  "TRACKING_SETTLED", "TRACKING_OUTCOMES",
] as const satisfies readonly (keyof typeof TrackingOutcome)[];

/** enum verdict */
export const Verdict = {
  VERDICT_CONTINUE: 0,
  PASS_NOT_IP: 1,
  PASS_MALFORMED: 2,
  PASS_OTHER_HOST: 3,
  PASS_NOT_OURS: 4,
  PASS_TRUNCATED: 5,
  PASS_FRAGMENT: 6,
  PASS_ICMP: 7,
  PASS_PROTOCOL: 8,
  PASS_ORPHANED: 9,
  PASS_LOCAL: 10,
  TX_FORWARDED: 11,
  TX_REPLY: 12,
  TX_ECHO_REPLY: 13,
  TX_ICMP_ERROR: 14,
  TX_TOO_BIG: 15,
  TX_RESET: 16,
  DROP_DENIED: 17,
  DROP_ORPHANED: 18,
  DROP_TTL_EXPIRED: 19,
  DROP_NO_BACKEND: 20,
  DROP_NO_NEIGHBOUR: 21,
  DROP_NO_PORT: 22,
  DROP_NAT_FULL: 23,
  DROP_NO_ROOM: 24,
  DROP_TOO_BIG: 25,
  DROP_TUNNEL_ERROR: 26,
  VERDICTS: 27,
} as const;
export type Verdict = (typeof Verdict)[keyof typeof Verdict];
/** In the order of their declaration. */
export const VERDICT_NAMES = [
  "VERDICT_CONTINUE", "PASS_NOT_IP", "PASS_MALFORMED", "PASS_OTHER_HOST", "PASS_NOT_OURS",
  "PASS_TRUNCATED", "PASS_FRAGMENT", "PASS_ICMP", "PASS_PROTOCOL", "PASS_ORPHANED", "PASS_LOCAL",
  "TX_FORWARDED", "TX_REPLY", "TX_ECHO_REPLY", "TX_ICMP_ERROR", "TX_TOO_BIG", "TX_RESET",
  "DROP_DENIED", "DROP_ORPHANED", "DROP_TTL_EXPIRED", "DROP_NO_BACKEND", "DROP_NO_NEIGHBOUR",
  "DROP_NO_PORT", "DROP_NAT_FULL", "DROP_NO_ROOM", "DROP_TOO_BIG", "DROP_TUNNEL_ERROR", "VERDICTS",
] as const satisfies readonly (keyof typeof Verdict)[];

/** struct address_key, 16 bytes */
export interface AddressKey {
  readonly address: Uint8Array;
}

function writeAddressKey(view: DataView, at: number, value: AddressKey): void {
  codec.setBytes(view, at, value.address, 16, "address_key.address");
}

function readAddressKey(view: DataView, at: number): AddressKey {
  return {
    address: codec.getBytes(view, at, 16),
  };
}

export const AddressKey = {
  size: 16,
  offsets: {
    address: 0,
  },
  encode: (value: AddressKey): Uint8Array => {
    const bytes = new Uint8Array(16);
    writeAddressKey(codec.exactView(bytes, 16, "struct address_key"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): AddressKey => readAddressKey(codec.exactView(bytes, 16, "struct address_key"), 0),
} as const;

/** struct address_prefix, 20 bytes */
export interface AddressPrefix {
  readonly prefixBits: number;
  readonly address: Uint8Array;
}

function writeAddressPrefix(view: DataView, at: number, value: AddressPrefix): void {
  codec.setU32(view, at, value.prefixBits, "address_prefix.prefix_bits");
  codec.setBytes(view, at + 4, value.address, 16, "address_prefix.address");
}

function readAddressPrefix(view: DataView, at: number): AddressPrefix {
  return {
    prefixBits: view.getUint32(at, true),
    address: codec.getBytes(view, at + 4, 16),
  };
}

export const AddressPrefix = {
  size: 20,
  offsets: {
    prefixBits: 0,
    address: 4,
  },
  encode: (value: AddressPrefix): Uint8Array => {
    const bytes = new Uint8Array(20);
    writeAddressPrefix(codec.exactView(bytes, 20, "struct address_prefix"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): AddressPrefix => readAddressPrefix(codec.exactView(bytes, 20, "struct address_prefix"), 0),
} as const;

/** struct affinity_key, 24 bytes */
export interface AffinityKey {
  readonly affinityId: bigint;
  readonly client: Uint8Array;
}

function writeAffinityKey(view: DataView, at: number, value: AffinityKey): void {
  codec.setU64(view, at, value.affinityId, "affinity_key.affinity_id");
  codec.setBytes(view, at + 8, value.client, 16, "affinity_key.client");
}

function readAffinityKey(view: DataView, at: number): AffinityKey {
  return {
    affinityId: view.getBigUint64(at, true),
    client: codec.getBytes(view, at + 8, 16),
  };
}

export const AffinityKey = {
  size: 24,
  offsets: {
    affinityId: 0,
    client: 8,
  },
  encode: (value: AffinityKey): Uint8Array => {
    const bytes = new Uint8Array(24);
    writeAffinityKey(codec.exactView(bytes, 24, "struct affinity_key"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): AffinityKey => readAffinityKey(codec.exactView(bytes, 24, "struct affinity_key"), 0),
} as const;

/** struct answer_count, 16 bytes */
export interface AnswerCount {
  readonly answers: bigint;
  readonly waitedNs: bigint;
}

function writeAnswerCount(view: DataView, at: number, value: AnswerCount): void {
  codec.setU64(view, at, value.answers, "answer_count.answers");
  codec.setU64(view, at + 8, value.waitedNs, "answer_count.waited_ns");
}

function readAnswerCount(view: DataView, at: number): AnswerCount {
  return {
    answers: view.getBigUint64(at, true),
    waitedNs: view.getBigUint64(at + 8, true),
  };
}

export const AnswerCount = {
  size: 16,
  offsets: {
    answers: 0,
    waitedNs: 8,
  },
  encode: (value: AnswerCount): Uint8Array => {
    const bytes = new Uint8Array(16);
    writeAnswerCount(codec.exactView(bytes, 16, "struct answer_count"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): AnswerCount => readAnswerCount(codec.exactView(bytes, 16, "struct answer_count"), 0),
} as const;

/** struct destination, 128 bytes */
export interface Destination {
  readonly address: Uint8Array;
  readonly tunnelSource: Uint8Array;
  readonly identity: bigint;
  readonly generation: number;
  readonly flags: number;
  readonly forwarding: number;
  readonly nextHopActive: number;
  readonly nextHops: readonly NextHop[];
  readonly tunnelSourceMask: number;
  readonly guePort: number;
  readonly port: number;
  readonly pickWeight: number;
  readonly gueVariant: number;
}

function writeDestination(view: DataView, at: number, value: Destination): void {
  codec.setBytes(view, at, value.address, 16, "destination.address");
  codec.setBytes(view, at + 16, value.tunnelSource, 16, "destination.tunnel_source");
  codec.setU64(view, at + 32, value.identity, "destination.identity");
  codec.setU32(view, at + 40, value.generation, "destination.generation");
  codec.setU32(view, at + 44, value.flags, "destination.flags");
  codec.setU32(view, at + 48, value.forwarding, "destination.forwarding");
  codec.setU32(view, at + 52, value.nextHopActive, "destination.next_hop_active");
  codec.setEach(value.nextHops, at + 56, 24, 2, "destination.next_hops", (each, place) => {
    writeNextHop(view, place, each);
  });
  codec.setBe32(view, at + 104, value.tunnelSourceMask, "destination.tunnel_source_mask");
  codec.setBe16(view, at + 108, value.guePort, "destination.gue_port");
  codec.setBe16(view, at + 110, value.port, "destination.port");
  codec.setU16(view, at + 112, value.pickWeight, "destination.pick_weight");
  codec.setU8(view, at + 114, value.gueVariant, "destination.gue_variant");
}

function readDestination(view: DataView, at: number): Destination {
  return {
    address: codec.getBytes(view, at, 16),
    tunnelSource: codec.getBytes(view, at + 16, 16),
    identity: view.getBigUint64(at + 32, true),
    generation: view.getUint32(at + 40, true),
    flags: view.getUint32(at + 44, true),
    forwarding: view.getUint32(at + 48, true),
    nextHopActive: view.getUint32(at + 52, true),
    nextHops: codec.getEach(at + 56, 24, 2, (place) => readNextHop(view, place)),
    tunnelSourceMask: view.getUint32(at + 104, false),
    guePort: view.getUint16(at + 108, false),
    port: view.getUint16(at + 110, false),
    pickWeight: view.getUint16(at + 112, true),
    gueVariant: view.getUint8(at + 114),
  };
}

export const Destination = {
  size: 128,
  offsets: {
    address: 0,
    tunnelSource: 16,
    identity: 32,
    generation: 40,
    flags: 44,
    forwarding: 48,
    nextHopActive: 52,
    nextHops: 56,
    tunnelSourceMask: 104,
    guePort: 108,
    port: 110,
    pickWeight: 112,
    gueVariant: 114,
  },
  encode: (value: Destination): Uint8Array => {
    const bytes = new Uint8Array(128);
    writeDestination(codec.exactView(bytes, 128, "struct destination"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): Destination => readDestination(codec.exactView(bytes, 128, "struct destination"), 0),
} as const;

/** struct flow_entry, 16 bytes */
export interface FlowEntry {
  readonly lastSeenNs: bigint;
  readonly generation: number;
  readonly destination: number;
  readonly other: number;
}

function writeFlowEntry(view: DataView, at: number, value: FlowEntry): void {
  codec.setU64(view, at, value.lastSeenNs, "flow_entry.last_seen_ns");
  codec.setU32(view, at + 8, value.generation, "flow_entry.generation");
  codec.setU16(view, at + 12, value.destination, "flow_entry.destination");
  codec.setU16(view, at + 14, value.other, "flow_entry.other");
}

function readFlowEntry(view: DataView, at: number): FlowEntry {
  return {
    lastSeenNs: view.getBigUint64(at, true),
    generation: view.getUint32(at + 8, true),
    destination: view.getUint16(at + 12, true),
    other: view.getUint16(at + 14, true),
  };
}

export const FlowEntry = {
  size: 16,
  offsets: {
    lastSeenNs: 0,
    generation: 8,
    destination: 12,
    other: 14,
  },
  encode: (value: FlowEntry): Uint8Array => {
    const bytes = new Uint8Array(16);
    writeFlowEntry(codec.exactView(bytes, 16, "struct flow_entry"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): FlowEntry => readFlowEntry(codec.exactView(bytes, 16, "struct flow_entry"), 0),
} as const;

/** struct flow_key, 40 bytes */
export interface FlowKey {
  readonly service: ServiceKey;
  readonly source: Uint8Array;
  readonly sourcePort: number;
}

function writeFlowKey(view: DataView, at: number, value: FlowKey): void {
  writeServiceKey(view, at, value.service);
  codec.setBytes(view, at + 20, value.source, 16, "flow_key.source");
  codec.setBe16(view, at + 36, value.sourcePort, "flow_key.source_port");
}

function readFlowKey(view: DataView, at: number): FlowKey {
  return {
    service: readServiceKey(view, at),
    source: codec.getBytes(view, at + 20, 16),
    sourcePort: view.getUint16(at + 36, false),
  };
}

export const FlowKey = {
  size: 40,
  offsets: {
    service: 0,
    source: 20,
    sourcePort: 36,
  },
  encode: (value: FlowKey): Uint8Array => {
    const bytes = new Uint8Array(40);
    writeFlowKey(codec.exactView(bytes, 40, "struct flow_key"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): FlowKey => readFlowKey(codec.exactView(bytes, 40, "struct flow_key"), 0),
} as const;

/** struct fragment_entry, 16 bytes */
export interface FragmentEntry {
  readonly rememberedNs: bigint;
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly protocol: number;
}

function writeFragmentEntry(view: DataView, at: number, value: FragmentEntry): void {
  codec.setU64(view, at, value.rememberedNs, "fragment_entry.remembered_ns");
  codec.setBe16(view, at + 8, value.sourcePort, "fragment_entry.source_port");
  codec.setBe16(view, at + 10, value.destinationPort, "fragment_entry.destination_port");
  codec.setU8(view, at + 12, value.protocol, "fragment_entry.protocol");
}

function readFragmentEntry(view: DataView, at: number): FragmentEntry {
  return {
    rememberedNs: view.getBigUint64(at, true),
    sourcePort: view.getUint16(at + 8, false),
    destinationPort: view.getUint16(at + 10, false),
    protocol: view.getUint8(at + 12),
  };
}

export const FragmentEntry = {
  size: 16,
  offsets: {
    rememberedNs: 0,
    sourcePort: 8,
    destinationPort: 10,
    protocol: 12,
  },
  encode: (value: FragmentEntry): Uint8Array => {
    const bytes = new Uint8Array(16);
    writeFragmentEntry(codec.exactView(bytes, 16, "struct fragment_entry"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): FragmentEntry => readFragmentEntry(codec.exactView(bytes, 16, "struct fragment_entry"), 0),
} as const;

/** struct fragment_key, 40 bytes */
export interface FragmentKey {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly identification: number;
  readonly protocol: number;
}

function writeFragmentKey(view: DataView, at: number, value: FragmentKey): void {
  codec.setBytes(view, at, value.source, 16, "fragment_key.source");
  codec.setBytes(view, at + 16, value.destination, 16, "fragment_key.destination");
  codec.setBe32(view, at + 32, value.identification, "fragment_key.identification");
  codec.setU8(view, at + 36, value.protocol, "fragment_key.protocol");
}

function readFragmentKey(view: DataView, at: number): FragmentKey {
  return {
    source: codec.getBytes(view, at, 16),
    destination: codec.getBytes(view, at + 16, 16),
    identification: view.getUint32(at + 32, false),
    protocol: view.getUint8(at + 36),
  };
}

export const FragmentKey = {
  size: 40,
  offsets: {
    source: 0,
    destination: 16,
    identification: 32,
    protocol: 36,
  },
  encode: (value: FragmentKey): Uint8Array => {
    const bytes = new Uint8Array(40);
    writeFragmentKey(codec.exactView(bytes, 40, "struct fragment_key"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): FragmentKey => readFragmentKey(codec.exactView(bytes, 40, "struct fragment_key"), 0),
} as const;

/** struct link_address, 12 bytes */
export interface LinkAddress {
  readonly ifindex: number;
  readonly mac: Uint8Array;
  readonly isInterface: number;
}

function writeLinkAddress(view: DataView, at: number, value: LinkAddress): void {
  codec.setU32(view, at, value.ifindex, "link_address.ifindex");
  codec.setBytes(view, at + 4, value.mac, 6, "link_address.mac");
  codec.setU8(view, at + 10, value.isInterface, "link_address.is_interface");
}

function readLinkAddress(view: DataView, at: number): LinkAddress {
  return {
    ifindex: view.getUint32(at, true),
    mac: codec.getBytes(view, at + 4, 6),
    isInterface: view.getUint8(at + 10),
  };
}

export const LinkAddress = {
  size: 12,
  offsets: {
    ifindex: 0,
    mac: 4,
    isInterface: 10,
  },
  encode: (value: LinkAddress): Uint8Array => {
    const bytes = new Uint8Array(12);
    writeLinkAddress(codec.exactView(bytes, 12, "struct link_address"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): LinkAddress => readLinkAddress(codec.exactView(bytes, 12, "struct link_address"), 0),
} as const;

/** struct nat_flow, 88 bytes */
export interface NatFlow {
  readonly lastSeenNs: bigint;
  readonly other: FlowKey;
  readonly destination: number;
  readonly generation: number;
  readonly service: number;
  readonly clientIfindex: number;
  readonly clientMacs: Uint8Array;
  readonly flags: number;
  readonly clientTagBytes: number;
  readonly clientTags: Uint8Array;
}

function writeNatFlow(view: DataView, at: number, value: NatFlow): void {
  codec.setU64(view, at, value.lastSeenNs, "nat_flow.last_seen_ns");
  writeFlowKey(view, at + 8, value.other);
  codec.setU32(view, at + 48, value.destination, "nat_flow.destination");
  codec.setU32(view, at + 52, value.generation, "nat_flow.generation");
  codec.setU32(view, at + 56, value.service, "nat_flow.service");
  codec.setU32(view, at + 60, value.clientIfindex, "nat_flow.client_ifindex");
  codec.setBytes(view, at + 64, value.clientMacs, 12, "nat_flow.client_macs");
  codec.setU8(view, at + 76, value.flags, "nat_flow.flags");
  codec.setU8(view, at + 77, value.clientTagBytes, "nat_flow.client_tag_bytes");
  codec.setBytes(view, at + 80, value.clientTags, 8, "nat_flow.client_tags");
}

function readNatFlow(view: DataView, at: number): NatFlow {
  return {
    lastSeenNs: view.getBigUint64(at, true),
    other: readFlowKey(view, at + 8),
    destination: view.getUint32(at + 48, true),
    generation: view.getUint32(at + 52, true),
    service: view.getUint32(at + 56, true),
    clientIfindex: view.getUint32(at + 60, true),
    clientMacs: codec.getBytes(view, at + 64, 12),
    flags: view.getUint8(at + 76),
    clientTagBytes: view.getUint8(at + 77),
    clientTags: codec.getBytes(view, at + 80, 8),
  };
}

export const NatFlow = {
  size: 88,
  offsets: {
    lastSeenNs: 0,
    other: 8,
    destination: 48,
    generation: 52,
    service: 56,
    clientIfindex: 60,
    clientMacs: 64,
    flags: 76,
    clientTagBytes: 77,
    clientTags: 80,
  },
  encode: (value: NatFlow): Uint8Array => {
    const bytes = new Uint8Array(88);
    writeNatFlow(codec.exactView(bytes, 88, "struct nat_flow"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): NatFlow => readNatFlow(codec.exactView(bytes, 88, "struct nat_flow"), 0),
} as const;

/** struct next_hop, 24 bytes */
export interface NextHop {
  readonly destinationMac: Uint8Array;
  readonly sourceMac: Uint8Array;
  readonly mtu: number;
  readonly vlan: number;
  readonly ifindex: number;
  readonly flags: number;
}

function writeNextHop(view: DataView, at: number, value: NextHop): void {
  codec.setBytes(view, at, value.destinationMac, 6, "next_hop.destination_mac");
  codec.setBytes(view, at + 6, value.sourceMac, 6, "next_hop.source_mac");
  codec.setU16(view, at + 12, value.mtu, "next_hop.mtu");
  codec.setU16(view, at + 14, value.vlan, "next_hop.vlan");
  codec.setU32(view, at + 16, value.ifindex, "next_hop.ifindex");
  codec.setU32(view, at + 20, value.flags, "next_hop.flags");
}

function readNextHop(view: DataView, at: number): NextHop {
  return {
    destinationMac: codec.getBytes(view, at, 6),
    sourceMac: codec.getBytes(view, at + 6, 6),
    mtu: view.getUint16(at + 12, true),
    vlan: view.getUint16(at + 14, true),
    ifindex: view.getUint32(at + 16, true),
    flags: view.getUint32(at + 20, true),
  };
}

export const NextHop = {
  size: 24,
  offsets: {
    destinationMac: 0,
    sourceMac: 6,
    mtu: 12,
    vlan: 14,
    ifindex: 16,
    flags: 20,
  },
  encode: (value: NextHop): Uint8Array => {
    const bytes = new Uint8Array(24);
    writeNextHop(codec.exactView(bytes, 24, "struct next_hop"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): NextHop => readNextHop(codec.exactView(bytes, 24, "struct next_hop"), 0),
} as const;

/** struct pick_state, 16 bytes */
export interface PickState {
  readonly random: bigint;
  readonly turn: number;
}

function writePickState(view: DataView, at: number, value: PickState): void {
  codec.setU64(view, at, value.random, "pick_state.random");
  codec.setU32(view, at + 8, value.turn, "pick_state.turn");
}

function readPickState(view: DataView, at: number): PickState {
  return {
    random: view.getBigUint64(at, true),
    turn: view.getUint32(at + 8, true),
  };
}

export const PickState = {
  size: 16,
  offsets: {
    random: 0,
    turn: 8,
  },
  encode: (value: PickState): Uint8Array => {
    const bytes = new Uint8Array(16);
    writePickState(codec.exactView(bytes, 16, "struct pick_state"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): PickState => readPickState(codec.exactView(bytes, 16, "struct pick_state"), 0),
} as const;

/** struct policy_key, 24 bytes */
export interface PolicyKey {
  readonly prefixBits: number;
  readonly service: number;
  readonly address: Uint8Array;
}

function writePolicyKey(view: DataView, at: number, value: PolicyKey): void {
  codec.setU32(view, at, value.prefixBits, "policy_key.prefix_bits");
  codec.setBe32(view, at + 4, value.service, "policy_key.service");
  codec.setBytes(view, at + 8, value.address, 16, "policy_key.address");
}

function readPolicyKey(view: DataView, at: number): PolicyKey {
  return {
    prefixBits: view.getUint32(at, true),
    service: view.getUint32(at + 4, false),
    address: codec.getBytes(view, at + 8, 16),
  };
}

export const PolicyKey = {
  size: 24,
  offsets: {
    prefixBits: 0,
    service: 4,
    address: 8,
  },
  encode: (value: PolicyKey): Uint8Array => {
    const bytes = new Uint8Array(24);
    writePolicyKey(codec.exactView(bytes, 24, "struct policy_key"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): PolicyKey => readPolicyKey(codec.exactView(bytes, 24, "struct policy_key"), 0),
} as const;

/** struct port_prefix, 12 bytes */
export interface PortPrefix {
  readonly prefixBits: number;
  readonly group: number;
  readonly protocol: number;
  readonly port: number;
}

function writePortPrefix(view: DataView, at: number, value: PortPrefix): void {
  codec.setU32(view, at, value.prefixBits, "port_prefix.prefix_bits");
  codec.setBe32(view, at + 4, value.group, "port_prefix.group");
  codec.setU8(view, at + 8, value.protocol, "port_prefix.protocol");
  codec.setBe16(view, at + 10, value.port, "port_prefix.port");
}

function readPortPrefix(view: DataView, at: number): PortPrefix {
  return {
    prefixBits: view.getUint32(at, true),
    group: view.getUint32(at + 4, false),
    protocol: view.getUint8(at + 8),
    port: view.getUint16(at + 10, false),
  };
}

export const PortPrefix = {
  size: 12,
  offsets: {
    prefixBits: 0,
    group: 4,
    protocol: 8,
    port: 10,
  },
  encode: (value: PortPrefix): Uint8Array => {
    const bytes = new Uint8Array(12);
    writePortPrefix(codec.exactView(bytes, 12, "struct port_prefix"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): PortPrefix => readPortPrefix(codec.exactView(bytes, 12, "struct port_prefix"), 0),
} as const;

/** struct probe_key, 20 bytes */
export interface ProbeKey {
  readonly address: Uint8Array;
  readonly port: number;
}

function writeProbeKey(view: DataView, at: number, value: ProbeKey): void {
  codec.setBytes(view, at, value.address, 16, "probe_key.address");
  codec.setBe16(view, at + 16, value.port, "probe_key.port");
}

function readProbeKey(view: DataView, at: number): ProbeKey {
  return {
    address: codec.getBytes(view, at, 16),
    port: view.getUint16(at + 16, false),
  };
}

export const ProbeKey = {
  size: 20,
  offsets: {
    address: 0,
    port: 16,
  },
  encode: (value: ProbeKey): Uint8Array => {
    const bytes = new Uint8Array(20);
    writeProbeKey(codec.exactView(bytes, 20, "struct probe_key"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): ProbeKey => readProbeKey(codec.exactView(bytes, 20, "struct probe_key"), 0),
} as const;

/** struct probe_path, 12 bytes */
export interface ProbePath {
  readonly destination: number;
  readonly generation: number;
  readonly flowHash: number;
}

function writeProbePath(view: DataView, at: number, value: ProbePath): void {
  codec.setU32(view, at, value.destination, "probe_path.destination");
  codec.setU32(view, at + 4, value.generation, "probe_path.generation");
  codec.setU32(view, at + 8, value.flowHash, "probe_path.flow_hash");
}

function readProbePath(view: DataView, at: number): ProbePath {
  return {
    destination: view.getUint32(at, true),
    generation: view.getUint32(at + 4, true),
    flowHash: view.getUint32(at + 8, true),
  };
}

export const ProbePath = {
  size: 12,
  offsets: {
    destination: 0,
    generation: 4,
    flowHash: 8,
  },
  encode: (value: ProbePath): Uint8Array => {
    const bytes = new Uint8Array(12);
    writeProbePath(codec.exactView(bytes, 12, "struct probe_path"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): ProbePath => readProbePath(codec.exactView(bytes, 12, "struct probe_path"), 0),
} as const;

/** struct quic_config, 232 bytes */
export interface QuicConfig {
  readonly serverMask: readonly bigint[];
  readonly leftMask: readonly bigint[];
  readonly rightMask: readonly bigint[];
  readonly mode: number;
  readonly serverIdBytes: number;
  readonly plaintextBytes: number;
  readonly rightOffset: number;
  readonly lengthEncoded: number;
  readonly schedule: readonly number[];
}

function writeQuicConfig(view: DataView, at: number, value: QuicConfig): void {
  codec.setEach(value.serverMask, at, 8, 2, "quic_config.server_mask", (each, place) => {
    codec.setU64(view, place, each, "quic_config.server_mask");
  });
  codec.setEach(value.leftMask, at + 16, 8, 2, "quic_config.left_mask", (each, place) => {
    codec.setU64(view, place, each, "quic_config.left_mask");
  });
  codec.setEach(value.rightMask, at + 32, 8, 2, "quic_config.right_mask", (each, place) => {
    codec.setU64(view, place, each, "quic_config.right_mask");
  });
  codec.setU8(view, at + 48, value.mode, "quic_config.mode");
  codec.setU8(view, at + 49, value.serverIdBytes, "quic_config.server_id_bytes");
  codec.setU8(view, at + 50, value.plaintextBytes, "quic_config.plaintext_bytes");
  codec.setU8(view, at + 51, value.rightOffset, "quic_config.right_offset");
  codec.setU8(view, at + 52, value.lengthEncoded, "quic_config.length_encoded");
  codec.setEach(value.schedule, at + 56, 4, 44, "quic_config.schedule", (each, place) => {
    codec.setU32(view, place, each, "quic_config.schedule");
  });
}

function readQuicConfig(view: DataView, at: number): QuicConfig {
  return {
    serverMask: codec.getEach(at, 8, 2, (place) => view.getBigUint64(place, true)),
    leftMask: codec.getEach(at + 16, 8, 2, (place) => view.getBigUint64(place, true)),
    rightMask: codec.getEach(at + 32, 8, 2, (place) => view.getBigUint64(place, true)),
    mode: view.getUint8(at + 48),
    serverIdBytes: view.getUint8(at + 49),
    plaintextBytes: view.getUint8(at + 50),
    rightOffset: view.getUint8(at + 51),
    lengthEncoded: view.getUint8(at + 52),
    schedule: codec.getEach(at + 56, 4, 44, (place) => view.getUint32(place, true)),
  };
}

export const QuicConfig = {
  size: 232,
  offsets: {
    serverMask: 0,
    leftMask: 16,
    rightMask: 32,
    mode: 48,
    serverIdBytes: 49,
    plaintextBytes: 50,
    rightOffset: 51,
    lengthEncoded: 52,
    schedule: 56,
  },
  encode: (value: QuicConfig): Uint8Array => {
    const bytes = new Uint8Array(232);
    writeQuicConfig(codec.exactView(bytes, 232, "struct quic_config"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): QuicConfig => readQuicConfig(codec.exactView(bytes, 232, "struct quic_config"), 0),
} as const;

/** struct quic_config_key, 8 bytes */
export interface QuicConfigKey {
  readonly service: number;
  readonly config: number;
}

function writeQuicConfigKey(view: DataView, at: number, value: QuicConfigKey): void {
  codec.setU32(view, at, value.service, "quic_config_key.service");
  codec.setU32(view, at + 4, value.config, "quic_config_key.config");
}

function readQuicConfigKey(view: DataView, at: number): QuicConfigKey {
  return {
    service: view.getUint32(at, true),
    config: view.getUint32(at + 4, true),
  };
}

export const QuicConfigKey = {
  size: 8,
  offsets: {
    service: 0,
    config: 4,
  },
  encode: (value: QuicConfigKey): Uint8Array => {
    const bytes = new Uint8Array(8);
    writeQuicConfigKey(codec.exactView(bytes, 8, "struct quic_config_key"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): QuicConfigKey => readQuicConfigKey(codec.exactView(bytes, 8, "struct quic_config_key"), 0),
} as const;

/** struct quic_server_key, 20 bytes */
export interface QuicServerKey {
  readonly serverId: Uint8Array;
  readonly serverIdBytes: number;
  readonly service: number;
}

function writeQuicServerKey(view: DataView, at: number, value: QuicServerKey): void {
  codec.setBytes(view, at, value.serverId, 15, "quic_server_key.server_id");
  codec.setU8(view, at + 15, value.serverIdBytes, "quic_server_key.server_id_bytes");
  codec.setU32(view, at + 16, value.service, "quic_server_key.service");
}

function readQuicServerKey(view: DataView, at: number): QuicServerKey {
  return {
    serverId: codec.getBytes(view, at, 15),
    serverIdBytes: view.getUint8(at + 15),
    service: view.getUint32(at + 16, true),
  };
}

export const QuicServerKey = {
  size: 20,
  offsets: {
    serverId: 0,
    serverIdBytes: 15,
    service: 16,
  },
  encode: (value: QuicServerKey): Uint8Array => {
    const bytes = new Uint8Array(20);
    writeQuicServerKey(codec.exactView(bytes, 20, "struct quic_server_key"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): QuicServerKey => readQuicServerKey(codec.exactView(bytes, 20, "struct quic_server_key"), 0),
} as const;

/** struct region_block, 288 bytes */
export interface RegionBlock {
  readonly starts: readonly RegionStart[];
  readonly digest: bigint;
  readonly firstChild: number;
  readonly last: number;
  readonly regions: Uint8Array;
}

function writeRegionBlock(view: DataView, at: number, value: RegionBlock): void {
  codec.setEach(value.starts, at, 16, 16, "region_block.starts", (each, place) => {
    writeRegionStart(view, place, each);
  });
  codec.setU64(view, at + 256, value.digest, "region_block.digest");
  codec.setU32(view, at + 264, value.firstChild, "region_block.first_child");
  codec.setU32(view, at + 268, value.last, "region_block.last");
  codec.setBytes(view, at + 272, value.regions, 16, "region_block.regions");
}

function readRegionBlock(view: DataView, at: number): RegionBlock {
  return {
    starts: codec.getEach(at, 16, 16, (place) => readRegionStart(view, place)),
    digest: view.getBigUint64(at + 256, true),
    firstChild: view.getUint32(at + 264, true),
    last: view.getUint32(at + 268, true),
    regions: codec.getBytes(view, at + 272, 16),
  };
}

export const RegionBlock = {
  size: 288,
  offsets: {
    starts: 0,
    digest: 256,
    firstChild: 264,
    last: 268,
    regions: 272,
  },
  encode: (value: RegionBlock): Uint8Array => {
    const bytes = new Uint8Array(288);
    writeRegionBlock(codec.exactView(bytes, 288, "struct region_block"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): RegionBlock => readRegionBlock(codec.exactView(bytes, 288, "struct region_block"), 0),
} as const;

/** struct region_key, 12 bytes */
export interface RegionKey {
  readonly regions: number;
  readonly service: number;
  readonly region: number;
}

function writeRegionKey(view: DataView, at: number, value: RegionKey): void {
  codec.setU32(view, at, value.regions, "region_key.regions");
  codec.setU32(view, at + 4, value.service, "region_key.service");
  codec.setU32(view, at + 8, value.region, "region_key.region");
}

function readRegionKey(view: DataView, at: number): RegionKey {
  return {
    regions: view.getUint32(at, true),
    service: view.getUint32(at + 4, true),
    region: view.getUint32(at + 8, true),
  };
}

export const RegionKey = {
  size: 12,
  offsets: {
    regions: 0,
    service: 4,
    region: 8,
  },
  encode: (value: RegionKey): Uint8Array => {
    const bytes = new Uint8Array(12);
    writeRegionKey(codec.exactView(bytes, 12, "struct region_key"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): RegionKey => readRegionKey(codec.exactView(bytes, 12, "struct region_key"), 0),
} as const;

/** struct region_name, 68 bytes */
export interface RegionName {
  readonly asked: number;
  readonly name: Uint8Array;
}

function writeRegionName(view: DataView, at: number, value: RegionName): void {
  codec.setU32(view, at, value.asked, "region_name.asked");
  codec.setBytes(view, at + 4, value.name, 64, "region_name.name");
}

function readRegionName(view: DataView, at: number): RegionName {
  return {
    asked: view.getUint32(at, true),
    name: codec.getBytes(view, at + 4, 64),
  };
}

export const RegionName = {
  size: 68,
  offsets: {
    asked: 0,
    name: 4,
  },
  encode: (value: RegionName): Uint8Array => {
    const bytes = new Uint8Array(68);
    writeRegionName(codec.exactView(bytes, 68, "struct region_name"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): RegionName => readRegionName(codec.exactView(bytes, 68, "struct region_name"), 0),
} as const;

/** struct region_service, 8 bytes */
export interface RegionService {
  readonly service: number;
  readonly version: number;
}

function writeRegionService(view: DataView, at: number, value: RegionService): void {
  codec.setU32(view, at, value.service, "region_service.service");
  codec.setU32(view, at + 4, value.version, "region_service.version");
}

function readRegionService(view: DataView, at: number): RegionService {
  return {
    service: view.getUint32(at, true),
    version: view.getUint32(at + 4, true),
  };
}

export const RegionService = {
  size: 8,
  offsets: {
    service: 0,
    version: 4,
  },
  encode: (value: RegionService): Uint8Array => {
    const bytes = new Uint8Array(8);
    writeRegionService(codec.exactView(bytes, 8, "struct region_service"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): RegionService => readRegionService(codec.exactView(bytes, 8, "struct region_service"), 0),
} as const;

/** struct region_start, 16 bytes */
export interface RegionStart {
  readonly high: bigint;
  readonly low: bigint;
}

function writeRegionStart(view: DataView, at: number, value: RegionStart): void {
  codec.setU64(view, at, value.high, "region_start.high");
  codec.setU64(view, at + 8, value.low, "region_start.low");
}

function readRegionStart(view: DataView, at: number): RegionStart {
  return {
    high: view.getBigUint64(at, true),
    low: view.getBigUint64(at + 8, true),
  };
}

export const RegionStart = {
  size: 16,
  offsets: {
    high: 0,
    low: 8,
  },
  encode: (value: RegionStart): Uint8Array => {
    const bytes = new Uint8Array(16);
    writeRegionStart(codec.exactView(bytes, 16, "struct region_start"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): RegionStart => readRegionStart(codec.exactView(bytes, 16, "struct region_start"), 0),
} as const;

/** struct remember_pace, 32 bytes */
export interface RememberPace {
  readonly nextNs: bigint;
  readonly intervalNs: bigint;
  readonly burstNs: bigint;
  readonly ownIntervalNs: bigint;
}

function writeRememberPace(view: DataView, at: number, value: RememberPace): void {
  codec.setU64(view, at, value.nextNs, "remember_pace.next_ns");
  codec.setU64(view, at + 8, value.intervalNs, "remember_pace.interval_ns");
  codec.setU64(view, at + 16, value.burstNs, "remember_pace.burst_ns");
  codec.setU64(view, at + 24, value.ownIntervalNs, "remember_pace.own_interval_ns");
}

function readRememberPace(view: DataView, at: number): RememberPace {
  return {
    nextNs: view.getBigUint64(at, true),
    intervalNs: view.getBigUint64(at + 8, true),
    burstNs: view.getBigUint64(at + 16, true),
    ownIntervalNs: view.getBigUint64(at + 24, true),
  };
}

export const RememberPace = {
  size: 32,
  offsets: {
    nextNs: 0,
    intervalNs: 8,
    burstNs: 16,
    ownIntervalNs: 24,
  },
  encode: (value: RememberPace): Uint8Array => {
    const bytes = new Uint8Array(32);
    writeRememberPace(codec.exactView(bytes, 32, "struct remember_pace"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): RememberPace => readRememberPace(codec.exactView(bytes, 32, "struct remember_pace"), 0),
} as const;

/** struct service_key, 20 bytes */
export interface ServiceKey {
  readonly address: Uint8Array;
  readonly port: number;
  readonly protocol: number;
}

function writeServiceKey(view: DataView, at: number, value: ServiceKey): void {
  codec.setBytes(view, at, value.address, 16, "service_key.address");
  codec.setBe16(view, at + 16, value.port, "service_key.port");
  codec.setU8(view, at + 18, value.protocol, "service_key.protocol");
}

function readServiceKey(view: DataView, at: number): ServiceKey {
  return {
    address: codec.getBytes(view, at, 16),
    port: view.getUint16(at + 16, false),
    protocol: view.getUint8(at + 18),
  };
}

export const ServiceKey = {
  size: 20,
  offsets: {
    address: 0,
    port: 16,
    protocol: 18,
  },
  encode: (value: ServiceKey): Uint8Array => {
    const bytes = new Uint8Array(20);
    writeServiceKey(codec.exactView(bytes, 20, "struct service_key"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): ServiceKey => readServiceKey(codec.exactView(bytes, 20, "struct service_key"), 0),
} as const;

/** struct service_version, 128 bytes */
export interface ServiceVersion {
  readonly scheme: SlotScheme;
  readonly flowIdleMs: number;
  readonly tracking: number;
  readonly flags: number;
  readonly mssMax: number;
  readonly changingUntilNs: bigint;
  readonly predecessor: SlotScheme;
  readonly rememberedSinceNs: bigint;
  readonly turns: number;
  readonly weightTotal: number;
  readonly flowsAt: number;
  readonly loadFactorPercent: number;
  readonly pick: number;
  readonly affinityId: bigint;
  readonly affinityMs: number;
  readonly regions: number;
  readonly regionsUntilNs: bigint;
  readonly regionsBefore: number;
  readonly asked: number;
}

function writeServiceVersion(view: DataView, at: number, value: ServiceVersion): void {
  writeSlotScheme(view, at, value.scheme);
  codec.setU32(view, at + 24, value.flowIdleMs, "service_version.flow_idle_ms");
  codec.setU8(view, at + 28, value.tracking, "service_version.tracking");
  codec.setU8(view, at + 29, value.flags, "service_version.flags");
  codec.setU16(view, at + 30, value.mssMax, "service_version.mss_max");
  codec.setU64(view, at + 32, value.changingUntilNs, "service_version.changing_until_ns");
  writeSlotScheme(view, at + 40, value.predecessor);
  codec.setU64(view, at + 64, value.rememberedSinceNs, "service_version.remembered_since_ns");
  codec.setU32(view, at + 72, value.turns, "service_version.turns");
  codec.setU32(view, at + 76, value.weightTotal, "service_version.weight_total");
  codec.setU32(view, at + 80, value.flowsAt, "service_version.flows_at");
  codec.setU16(view, at + 84, value.loadFactorPercent, "service_version.load_factor_percent");
  codec.setU8(view, at + 86, value.pick, "service_version.pick");
  codec.setU64(view, at + 88, value.affinityId, "service_version.affinity_id");
  codec.setU32(view, at + 96, value.affinityMs, "service_version.affinity_ms");
  codec.setU32(view, at + 100, value.regions, "service_version.regions");
  codec.setU64(view, at + 104, value.regionsUntilNs, "service_version.regions_until_ns");
  codec.setU32(view, at + 112, value.regionsBefore, "service_version.regions_before");
  codec.setU32(view, at + 116, value.asked, "service_version.asked");
}

function readServiceVersion(view: DataView, at: number): ServiceVersion {
  return {
    scheme: readSlotScheme(view, at),
    flowIdleMs: view.getUint32(at + 24, true),
    tracking: view.getUint8(at + 28),
    flags: view.getUint8(at + 29),
    mssMax: view.getUint16(at + 30, true),
    changingUntilNs: view.getBigUint64(at + 32, true),
    predecessor: readSlotScheme(view, at + 40),
    rememberedSinceNs: view.getBigUint64(at + 64, true),
    turns: view.getUint32(at + 72, true),
    weightTotal: view.getUint32(at + 76, true),
    flowsAt: view.getUint32(at + 80, true),
    loadFactorPercent: view.getUint16(at + 84, true),
    pick: view.getUint8(at + 86),
    affinityId: view.getBigUint64(at + 88, true),
    affinityMs: view.getUint32(at + 96, true),
    regions: view.getUint32(at + 100, true),
    regionsUntilNs: view.getBigUint64(at + 104, true),
    regionsBefore: view.getUint32(at + 112, true),
    asked: view.getUint32(at + 116, true),
  };
}

export const ServiceVersion = {
  size: 128,
  offsets: {
    scheme: 0,
    flowIdleMs: 24,
    tracking: 28,
    flags: 29,
    mssMax: 30,
    changingUntilNs: 32,
    predecessor: 40,
    rememberedSinceNs: 64,
    turns: 72,
    weightTotal: 76,
    flowsAt: 80,
    loadFactorPercent: 84,
    pick: 86,
    affinityId: 88,
    affinityMs: 96,
    regions: 100,
    regionsUntilNs: 104,
    regionsBefore: 112,
    asked: 116,
  },
  encode: (value: ServiceVersion): Uint8Array => {
    const bytes = new Uint8Array(128);
    writeServiceVersion(codec.exactView(bytes, 128, "struct service_version"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): ServiceVersion => readServiceVersion(codec.exactView(bytes, 128, "struct service_version"), 0),
} as const;

/** struct settings, 88 bytes */
export interface Settings {
  readonly abiFingerprint: bigint;
  readonly heartbeatNs: bigint;
  readonly orphanAfterNs: bigint;
  readonly orphanAction: bigint;
  readonly icmpIntervalNs: bigint;
  readonly natPorts: bigint;
  readonly natSynNs: bigint;
  readonly natEstablishedNs: bigint;
  readonly natFinNs: bigint;
  readonly natRstNs: bigint;
  readonly natUdpNs: bigint;
}

function writeSettings(view: DataView, at: number, value: Settings): void {
  codec.setU64(view, at, value.abiFingerprint, "settings.abi_fingerprint");
  codec.setU64(view, at + 8, value.heartbeatNs, "settings.heartbeat_ns");
  codec.setU64(view, at + 16, value.orphanAfterNs, "settings.orphan_after_ns");
  codec.setU64(view, at + 24, value.orphanAction, "settings.orphan_action");
  codec.setU64(view, at + 32, value.icmpIntervalNs, "settings.icmp_interval_ns");
  codec.setU64(view, at + 40, value.natPorts, "settings.nat_ports");
  codec.setU64(view, at + 48, value.natSynNs, "settings.nat_syn_ns");
  codec.setU64(view, at + 56, value.natEstablishedNs, "settings.nat_established_ns");
  codec.setU64(view, at + 64, value.natFinNs, "settings.nat_fin_ns");
  codec.setU64(view, at + 72, value.natRstNs, "settings.nat_rst_ns");
  codec.setU64(view, at + 80, value.natUdpNs, "settings.nat_udp_ns");
}

function readSettings(view: DataView, at: number): Settings {
  return {
    abiFingerprint: view.getBigUint64(at, true),
    heartbeatNs: view.getBigUint64(at + 8, true),
    orphanAfterNs: view.getBigUint64(at + 16, true),
    orphanAction: view.getBigUint64(at + 24, true),
    icmpIntervalNs: view.getBigUint64(at + 32, true),
    natPorts: view.getBigUint64(at + 40, true),
    natSynNs: view.getBigUint64(at + 48, true),
    natEstablishedNs: view.getBigUint64(at + 56, true),
    natFinNs: view.getBigUint64(at + 64, true),
    natRstNs: view.getBigUint64(at + 72, true),
    natUdpNs: view.getBigUint64(at + 80, true),
  };
}

export const Settings = {
  size: 88,
  offsets: {
    abiFingerprint: 0,
    heartbeatNs: 8,
    orphanAfterNs: 16,
    orphanAction: 24,
    icmpIntervalNs: 32,
    natPorts: 40,
    natSynNs: 48,
    natEstablishedNs: 56,
    natFinNs: 64,
    natRstNs: 72,
    natUdpNs: 80,
  },
  encode: (value: Settings): Uint8Array => {
    const bytes = new Uint8Array(88);
    writeSettings(codec.exactView(bytes, 88, "struct settings"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): Settings => readSettings(codec.exactView(bytes, 88, "struct settings"), 0),
} as const;

/** struct slot_scheme, 24 bytes */
export interface SlotScheme {
  readonly hashSeed: bigint;
  readonly ringId: number;
  readonly ringSize: number;
  readonly ringClass: number;
  readonly hashInput: number;
  readonly sourcePrefixIpv4: number;
  readonly sourcePrefixIpv6: number;
}

function writeSlotScheme(view: DataView, at: number, value: SlotScheme): void {
  codec.setU64(view, at, value.hashSeed, "slot_scheme.hash_seed");
  codec.setU32(view, at + 8, value.ringId, "slot_scheme.ring_id");
  codec.setU32(view, at + 12, value.ringSize, "slot_scheme.ring_size");
  codec.setU8(view, at + 16, value.ringClass, "slot_scheme.ring_class");
  codec.setU8(view, at + 17, value.hashInput, "slot_scheme.hash_input");
  codec.setU8(view, at + 18, value.sourcePrefixIpv4, "slot_scheme.source_prefix_ipv4");
  codec.setU8(view, at + 19, value.sourcePrefixIpv6, "slot_scheme.source_prefix_ipv6");
}

function readSlotScheme(view: DataView, at: number): SlotScheme {
  return {
    hashSeed: view.getBigUint64(at, true),
    ringId: view.getUint32(at + 8, true),
    ringSize: view.getUint32(at + 12, true),
    ringClass: view.getUint8(at + 16),
    hashInput: view.getUint8(at + 17),
    sourcePrefixIpv4: view.getUint8(at + 18),
    sourcePrefixIpv6: view.getUint8(at + 19),
  };
}

export const SlotScheme = {
  size: 24,
  offsets: {
    hashSeed: 0,
    ringId: 8,
    ringSize: 12,
    ringClass: 16,
    hashInput: 17,
    sourcePrefixIpv4: 18,
    sourcePrefixIpv6: 19,
  },
  encode: (value: SlotScheme): Uint8Array => {
    const bytes = new Uint8Array(24);
    writeSlotScheme(codec.exactView(bytes, 24, "struct slot_scheme"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): SlotScheme => readSlotScheme(codec.exactView(bytes, 24, "struct slot_scheme"), 0),
} as const;

/** struct traffic_count, 24 bytes */
export interface TrafficCount {
  readonly packets: bigint;
  readonly bytes: bigint;
  readonly flows: bigint;
}

function writeTrafficCount(view: DataView, at: number, value: TrafficCount): void {
  codec.setU64(view, at, value.packets, "traffic_count.packets");
  codec.setU64(view, at + 8, value.bytes, "traffic_count.bytes");
  codec.setU64(view, at + 16, value.flows, "traffic_count.flows");
}

function readTrafficCount(view: DataView, at: number): TrafficCount {
  return {
    packets: view.getBigUint64(at, true),
    bytes: view.getBigUint64(at + 8, true),
    flows: view.getBigUint64(at + 16, true),
  };
}

export const TrafficCount = {
  size: 24,
  offsets: {
    packets: 0,
    bytes: 8,
    flows: 16,
  },
  encode: (value: TrafficCount): Uint8Array => {
    const bytes = new Uint8Array(24);
    writeTrafficCount(codec.exactView(bytes, 24, "struct traffic_count"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): TrafficCount => readTrafficCount(codec.exactView(bytes, 24, "struct traffic_count"), 0),
} as const;

/** struct tunnel_end, 32 bytes */
export interface TunnelEnd {
  readonly mtuNs: bigint;
  readonly unreachableNs: bigint;
  readonly destination: number;
  readonly mtu: number;
  readonly unreachable: number;
}

function writeTunnelEnd(view: DataView, at: number, value: TunnelEnd): void {
  codec.setU64(view, at, value.mtuNs, "tunnel_end.mtu_ns");
  codec.setU64(view, at + 8, value.unreachableNs, "tunnel_end.unreachable_ns");
  codec.setU32(view, at + 16, value.destination, "tunnel_end.destination");
  codec.setU32(view, at + 20, value.mtu, "tunnel_end.mtu");
  codec.setU32(view, at + 24, value.unreachable, "tunnel_end.unreachable");
}

function readTunnelEnd(view: DataView, at: number): TunnelEnd {
  return {
    mtuNs: view.getBigUint64(at, true),
    unreachableNs: view.getBigUint64(at + 8, true),
    destination: view.getUint32(at + 16, true),
    mtu: view.getUint32(at + 20, true),
    unreachable: view.getUint32(at + 24, true),
  };
}

export const TunnelEnd = {
  size: 32,
  offsets: {
    mtuNs: 0,
    unreachableNs: 8,
    destination: 16,
    mtu: 20,
    unreachable: 24,
  },
  encode: (value: TunnelEnd): Uint8Array => {
    const bytes = new Uint8Array(32);
    writeTunnelEnd(codec.exactView(bytes, 32, "struct tunnel_end"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): TunnelEnd => readTunnelEnd(codec.exactView(bytes, 32, "struct tunnel_end"), 0),
} as const;

/** struct verdict_count, 16 bytes */
export interface VerdictCount {
  readonly packets: bigint;
  readonly bytes: bigint;
}

function writeVerdictCount(view: DataView, at: number, value: VerdictCount): void {
  codec.setU64(view, at, value.packets, "verdict_count.packets");
  codec.setU64(view, at + 8, value.bytes, "verdict_count.bytes");
}

function readVerdictCount(view: DataView, at: number): VerdictCount {
  return {
    packets: view.getBigUint64(at, true),
    bytes: view.getBigUint64(at + 8, true),
  };
}

export const VerdictCount = {
  size: 16,
  offsets: {
    packets: 0,
    bytes: 8,
  },
  encode: (value: VerdictCount): Uint8Array => {
    const bytes = new Uint8Array(16);
    writeVerdictCount(codec.exactView(bytes, 16, "struct verdict_count"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): VerdictCount => readVerdictCount(codec.exactView(bytes, 16, "struct verdict_count"), 0),
} as const;

/** struct wildcard_key, 24 bytes */
export interface WildcardKey {
  readonly address: Uint8Array;
  readonly portFirst: number;
  readonly portLast: number;
  readonly addressBits: number;
  readonly protocol: number;
}

function writeWildcardKey(view: DataView, at: number, value: WildcardKey): void {
  codec.setBytes(view, at, value.address, 16, "wildcard_key.address");
  codec.setBe16(view, at + 16, value.portFirst, "wildcard_key.port_first");
  codec.setBe16(view, at + 18, value.portLast, "wildcard_key.port_last");
  codec.setU8(view, at + 20, value.addressBits, "wildcard_key.address_bits");
  codec.setU8(view, at + 21, value.protocol, "wildcard_key.protocol");
}

function readWildcardKey(view: DataView, at: number): WildcardKey {
  return {
    address: codec.getBytes(view, at, 16),
    portFirst: view.getUint16(at + 16, false),
    portLast: view.getUint16(at + 18, false),
    addressBits: view.getUint8(at + 20),
    protocol: view.getUint8(at + 21),
  };
}

export const WildcardKey = {
  size: 24,
  offsets: {
    address: 0,
    portFirst: 16,
    portLast: 18,
    addressBits: 20,
    protocol: 21,
  },
  encode: (value: WildcardKey): Uint8Array => {
    const bytes = new Uint8Array(24);
    writeWildcardKey(codec.exactView(bytes, 24, "struct wildcard_key"), 0, value);
    return bytes;
  },
  decode: (bytes: Uint8Array): WildcardKey => readWildcardKey(codec.exactView(bytes, 24, "struct wildcard_key"), 0),
} as const;

/** Maps that decap.bpf.o declares. */
export const DECAP_MAPS = [
  "decap_addresses", "decap_counts", "decap_local", "decap_sources",
] as const;
/** Programs in decap.bpf.o. */
export const DECAP_PROGRAMS = [
  "decap",
] as const;

/** What decap.bpf.o takes as fixed when it is loaded: its const volatile variables. */
export interface DecapRodata {
  readonly decapSecondChance: boolean;
  readonly decapIfindex: number;
  readonly decapTransmitsByRedirect: boolean;
  readonly decapChecksSource: boolean;
  readonly decapGuePort: number;
}

export const DecapRodata = {
  section: ".rodata",
  size: 12,
  offsets: {
    decapSecondChance: 0,
    decapIfindex: 4,
    decapTransmitsByRedirect: 8,
    decapChecksSource: 9,
    decapGuePort: 10,
  },
  /** The section with these settings in place of the initial ones. */
  encode: (initial: Uint8Array, value: Partial<DecapRodata>): Uint8Array => {
    const bytes = initial.slice();
    const view = codec.exactView(bytes, 12, ".rodata of decap");
    if (value.decapSecondChance !== undefined) {
      codec.setU8(view, 0, Number(value.decapSecondChance), "decap_second_chance");
    }
    if (value.decapIfindex !== undefined) {
      codec.setU32(view, 4, value.decapIfindex, "decap_ifindex");
    }
    if (value.decapTransmitsByRedirect !== undefined) {
      codec.setU8(view, 8, Number(value.decapTransmitsByRedirect), "decap_transmits_by_redirect");
    }
    if (value.decapChecksSource !== undefined) {
      codec.setU8(view, 9, Number(value.decapChecksSource), "decap_checks_source");
    }
    if (value.decapGuePort !== undefined) {
      codec.setBe16(view, 10, value.decapGuePort, "decap_gue_port");
    }
    return bytes;
  },
  decode: (bytes: Uint8Array): DecapRodata => {
    const view = codec.exactView(bytes, 12, ".rodata of decap");
    return {
      decapSecondChance: view.getUint8(0) !== 0,
      decapIfindex: view.getUint32(4, true),
      decapTransmitsByRedirect: view.getUint8(8) !== 0,
      decapChecksSource: view.getUint8(9) !== 0,
      decapGuePort: view.getUint16(10, false),
    };
  },
} as const;

/** Maps that pointsman.bpf.o declares. */
export const POINTSMAN_MAPS = [
  "address_groups", "affinities", "answer_counts", "destination_flows", "destination_traffic",
  "destinations", "devices", "first_link_addresses", "flow_counts", "flows", "fragments",
  "group_services", "icmp_pace", "link_addresses", "nat_claims", "nat_counts", "nat_flows",
  "nat_sources", "outer_identifications", "pick_scans", "pick_states", "policies", "quic_configs",
  "quic_counts", "quic_servers", "region_names", "region_services", "region_tables",
  "remember_pace", "rings_large", "rings_medium", "rings_small", "sampled_flows", "service_active",
  "service_flows", "service_pace", "service_traffic", "service_versions", "services", "settings",
  "tracking_counts", "tunnel_ends", "untracked_flows", "verdict_counts", "virtual_addresses",
  "wildcards",
] as const;
/** Programs in pointsman.bpf.o. */
export const POINTSMAN_PROGRAMS = [
  "pointsman",
] as const;

/** What pointsman.bpf.o takes as fixed when it is loaded: its const volatile variables. */
export interface PointsmanRodata {
  readonly featureL2: boolean;
  readonly featureIpip: boolean;
  readonly featureGue: boolean;
  readonly featureGre: boolean;
  readonly featureNat: boolean;
  readonly featureMssClamp: boolean;
  readonly featureTunnelVariation: boolean;
  readonly featureWildcard: boolean;
  readonly featureRegions: boolean;
  readonly featureTracking: boolean;
  readonly featurePick: boolean;
  readonly featureAffinity: boolean;
  readonly featureMinimal: boolean;
  readonly featureSample: boolean;
  readonly featureSecondChance: boolean;
  readonly featurePolicy: boolean;
  readonly featureSourceHash: boolean;
  readonly featureOrphan: boolean;
  readonly featureQuicLb: boolean;
  readonly featureIcmpErrors: boolean;
  readonly featureTunnelErrors: boolean;
  readonly ringClassSmall: boolean;
  readonly ringClassMedium: boolean;
  readonly ringClassLarge: boolean;
  readonly transmitByRedirect: boolean;
}

export const PointsmanRodata = {
  section: ".rodata",
  size: 4768,
  offsets: {
    featureL2: 0,
    featureIpip: 1,
    featureGue: 2,
    featureGre: 3,
    featureNat: 4,
    featureMssClamp: 5,
    featureTunnelVariation: 6,
    featureWildcard: 7,
    featureRegions: 8,
    featureTracking: 9,
    featurePick: 10,
    featureAffinity: 11,
    featureMinimal: 12,
    featureSample: 13,
    featureSecondChance: 14,
    featurePolicy: 15,
    featureSourceHash: 16,
    featureOrphan: 17,
    featureQuicLb: 18,
    featureIcmpErrors: 19,
    featureTunnelErrors: 20,
    ringClassSmall: 21,
    ringClassMedium: 22,
    ringClassLarge: 23,
    transmitByRedirect: 24,
  },
  /** The section with these settings in place of the initial ones. */
  encode: (initial: Uint8Array, value: Partial<PointsmanRodata>): Uint8Array => {
    const bytes = initial.slice();
    const view = codec.exactView(bytes, 4768, ".rodata of pointsman");
    if (value.featureL2 !== undefined) {
      codec.setU8(view, 0, Number(value.featureL2), "feature_l2");
    }
    if (value.featureIpip !== undefined) {
      codec.setU8(view, 1, Number(value.featureIpip), "feature_ipip");
    }
    if (value.featureGue !== undefined) {
      codec.setU8(view, 2, Number(value.featureGue), "feature_gue");
    }
    if (value.featureGre !== undefined) {
      codec.setU8(view, 3, Number(value.featureGre), "feature_gre");
    }
    if (value.featureNat !== undefined) {
      codec.setU8(view, 4, Number(value.featureNat), "feature_nat");
    }
    if (value.featureMssClamp !== undefined) {
      codec.setU8(view, 5, Number(value.featureMssClamp), "feature_mss_clamp");
    }
    if (value.featureTunnelVariation !== undefined) {
      codec.setU8(view, 6, Number(value.featureTunnelVariation), "feature_tunnel_variation");
    }
    if (value.featureWildcard !== undefined) {
      codec.setU8(view, 7, Number(value.featureWildcard), "feature_wildcard");
    }
    if (value.featureRegions !== undefined) {
      codec.setU8(view, 8, Number(value.featureRegions), "feature_regions");
    }
    if (value.featureTracking !== undefined) {
      codec.setU8(view, 9, Number(value.featureTracking), "feature_tracking");
    }
    if (value.featurePick !== undefined) {
      codec.setU8(view, 10, Number(value.featurePick), "feature_pick");
    }
    if (value.featureAffinity !== undefined) {
      codec.setU8(view, 11, Number(value.featureAffinity), "feature_affinity");
    }
    if (value.featureMinimal !== undefined) {
      codec.setU8(view, 12, Number(value.featureMinimal), "feature_minimal");
    }
    if (value.featureSample !== undefined) {
      codec.setU8(view, 13, Number(value.featureSample), "feature_sample");
    }
    if (value.featureSecondChance !== undefined) {
      codec.setU8(view, 14, Number(value.featureSecondChance), "feature_second_chance");
    }
    if (value.featurePolicy !== undefined) {
      codec.setU8(view, 15, Number(value.featurePolicy), "feature_policy");
    }
    if (value.featureSourceHash !== undefined) {
      codec.setU8(view, 16, Number(value.featureSourceHash), "feature_source_hash");
    }
    if (value.featureOrphan !== undefined) {
      codec.setU8(view, 17, Number(value.featureOrphan), "feature_orphan");
    }
    if (value.featureQuicLb !== undefined) {
      codec.setU8(view, 18, Number(value.featureQuicLb), "feature_quic_lb");
    }
    if (value.featureIcmpErrors !== undefined) {
      codec.setU8(view, 19, Number(value.featureIcmpErrors), "feature_icmp_errors");
    }
    if (value.featureTunnelErrors !== undefined) {
      codec.setU8(view, 20, Number(value.featureTunnelErrors), "feature_tunnel_errors");
    }
    if (value.ringClassSmall !== undefined) {
      codec.setU8(view, 21, Number(value.ringClassSmall), "ring_class_small");
    }
    if (value.ringClassMedium !== undefined) {
      codec.setU8(view, 22, Number(value.ringClassMedium), "ring_class_medium");
    }
    if (value.ringClassLarge !== undefined) {
      codec.setU8(view, 23, Number(value.ringClassLarge), "ring_class_large");
    }
    if (value.transmitByRedirect !== undefined) {
      codec.setU8(view, 24, Number(value.transmitByRedirect), "transmit_by_redirect");
    }
    return bytes;
  },
  decode: (bytes: Uint8Array): PointsmanRodata => {
    const view = codec.exactView(bytes, 4768, ".rodata of pointsman");
    return {
      featureL2: view.getUint8(0) !== 0,
      featureIpip: view.getUint8(1) !== 0,
      featureGue: view.getUint8(2) !== 0,
      featureGre: view.getUint8(3) !== 0,
      featureNat: view.getUint8(4) !== 0,
      featureMssClamp: view.getUint8(5) !== 0,
      featureTunnelVariation: view.getUint8(6) !== 0,
      featureWildcard: view.getUint8(7) !== 0,
      featureRegions: view.getUint8(8) !== 0,
      featureTracking: view.getUint8(9) !== 0,
      featurePick: view.getUint8(10) !== 0,
      featureAffinity: view.getUint8(11) !== 0,
      featureMinimal: view.getUint8(12) !== 0,
      featureSample: view.getUint8(13) !== 0,
      featureSecondChance: view.getUint8(14) !== 0,
      featurePolicy: view.getUint8(15) !== 0,
      featureSourceHash: view.getUint8(16) !== 0,
      featureOrphan: view.getUint8(17) !== 0,
      featureQuicLb: view.getUint8(18) !== 0,
      featureIcmpErrors: view.getUint8(19) !== 0,
      featureTunnelErrors: view.getUint8(20) !== 0,
      ringClassSmall: view.getUint8(21) !== 0,
      ringClassMedium: view.getUint8(22) !== 0,
      ringClassLarge: view.getUint8(23) !== 0,
      transmitByRedirect: view.getUint8(24) !== 0,
    };
  },
} as const;

/** Maps that probe.bpf.o declares. */
export const PROBE_MAPS = [
  "address_groups", "affinities", "answer_counts", "destination_flows", "destination_traffic",
  "destinations", "devices", "first_link_addresses", "flow_counts", "flows", "fragments",
  "group_services", "icmp_pace", "link_addresses", "nat_claims", "nat_counts", "nat_flows",
  "nat_sources", "outer_identifications", "pick_scans", "pick_states", "policies", "probe_paths",
  "quic_configs", "quic_counts", "quic_servers", "region_names", "region_services",
  "region_tables", "remember_pace", "rings_large", "rings_medium", "rings_small", "sampled_flows",
  "service_active", "service_flows", "service_pace", "service_traffic", "service_versions",
  "services", "settings", "tracking_counts", "tunnel_ends", "untracked_flows", "verdict_counts",
  "virtual_addresses", "wildcards",
] as const;
/** Programs in probe.bpf.o. */
export const PROBE_PROGRAMS = [
  "probe",
] as const;

/** What probe.bpf.o takes as fixed when it is loaded: its const volatile variables. */
export interface ProbeRodata {
  readonly featureL2: boolean;
  readonly featureIpip: boolean;
  readonly featureGue: boolean;
  readonly featureGre: boolean;
  readonly featureNat: boolean;
  readonly featureMssClamp: boolean;
  readonly featureTunnelVariation: boolean;
  readonly featureWildcard: boolean;
  readonly featureRegions: boolean;
  readonly featureTracking: boolean;
  readonly featurePick: boolean;
  readonly featureAffinity: boolean;
  readonly featureMinimal: boolean;
  readonly featureSample: boolean;
  readonly featureSecondChance: boolean;
  readonly featurePolicy: boolean;
  readonly featureSourceHash: boolean;
  readonly featureOrphan: boolean;
  readonly featureQuicLb: boolean;
  readonly featureIcmpErrors: boolean;
  readonly featureTunnelErrors: boolean;
  readonly ringClassSmall: boolean;
  readonly ringClassMedium: boolean;
  readonly ringClassLarge: boolean;
  readonly transmitByRedirect: boolean;
}

export const ProbeRodata = {
  section: ".rodata",
  size: 4756,
  offsets: {
    featureL2: 0,
    featureIpip: 1,
    featureGue: 2,
    featureGre: 3,
    featureNat: 4,
    featureMssClamp: 5,
    featureTunnelVariation: 6,
    featureWildcard: 7,
    featureRegions: 8,
    featureTracking: 9,
    featurePick: 10,
    featureAffinity: 11,
    featureMinimal: 12,
    featureSample: 13,
    featureSecondChance: 14,
    featurePolicy: 15,
    featureSourceHash: 16,
    featureOrphan: 17,
    featureQuicLb: 18,
    featureIcmpErrors: 19,
    featureTunnelErrors: 20,
    ringClassSmall: 21,
    ringClassMedium: 22,
    ringClassLarge: 23,
    transmitByRedirect: 24,
  },
  /** The section with these settings in place of the initial ones. */
  encode: (initial: Uint8Array, value: Partial<ProbeRodata>): Uint8Array => {
    const bytes = initial.slice();
    const view = codec.exactView(bytes, 4756, ".rodata of probe");
    if (value.featureL2 !== undefined) {
      codec.setU8(view, 0, Number(value.featureL2), "feature_l2");
    }
    if (value.featureIpip !== undefined) {
      codec.setU8(view, 1, Number(value.featureIpip), "feature_ipip");
    }
    if (value.featureGue !== undefined) {
      codec.setU8(view, 2, Number(value.featureGue), "feature_gue");
    }
    if (value.featureGre !== undefined) {
      codec.setU8(view, 3, Number(value.featureGre), "feature_gre");
    }
    if (value.featureNat !== undefined) {
      codec.setU8(view, 4, Number(value.featureNat), "feature_nat");
    }
    if (value.featureMssClamp !== undefined) {
      codec.setU8(view, 5, Number(value.featureMssClamp), "feature_mss_clamp");
    }
    if (value.featureTunnelVariation !== undefined) {
      codec.setU8(view, 6, Number(value.featureTunnelVariation), "feature_tunnel_variation");
    }
    if (value.featureWildcard !== undefined) {
      codec.setU8(view, 7, Number(value.featureWildcard), "feature_wildcard");
    }
    if (value.featureRegions !== undefined) {
      codec.setU8(view, 8, Number(value.featureRegions), "feature_regions");
    }
    if (value.featureTracking !== undefined) {
      codec.setU8(view, 9, Number(value.featureTracking), "feature_tracking");
    }
    if (value.featurePick !== undefined) {
      codec.setU8(view, 10, Number(value.featurePick), "feature_pick");
    }
    if (value.featureAffinity !== undefined) {
      codec.setU8(view, 11, Number(value.featureAffinity), "feature_affinity");
    }
    if (value.featureMinimal !== undefined) {
      codec.setU8(view, 12, Number(value.featureMinimal), "feature_minimal");
    }
    if (value.featureSample !== undefined) {
      codec.setU8(view, 13, Number(value.featureSample), "feature_sample");
    }
    if (value.featureSecondChance !== undefined) {
      codec.setU8(view, 14, Number(value.featureSecondChance), "feature_second_chance");
    }
    if (value.featurePolicy !== undefined) {
      codec.setU8(view, 15, Number(value.featurePolicy), "feature_policy");
    }
    if (value.featureSourceHash !== undefined) {
      codec.setU8(view, 16, Number(value.featureSourceHash), "feature_source_hash");
    }
    if (value.featureOrphan !== undefined) {
      codec.setU8(view, 17, Number(value.featureOrphan), "feature_orphan");
    }
    if (value.featureQuicLb !== undefined) {
      codec.setU8(view, 18, Number(value.featureQuicLb), "feature_quic_lb");
    }
    if (value.featureIcmpErrors !== undefined) {
      codec.setU8(view, 19, Number(value.featureIcmpErrors), "feature_icmp_errors");
    }
    if (value.featureTunnelErrors !== undefined) {
      codec.setU8(view, 20, Number(value.featureTunnelErrors), "feature_tunnel_errors");
    }
    if (value.ringClassSmall !== undefined) {
      codec.setU8(view, 21, Number(value.ringClassSmall), "ring_class_small");
    }
    if (value.ringClassMedium !== undefined) {
      codec.setU8(view, 22, Number(value.ringClassMedium), "ring_class_medium");
    }
    if (value.ringClassLarge !== undefined) {
      codec.setU8(view, 23, Number(value.ringClassLarge), "ring_class_large");
    }
    if (value.transmitByRedirect !== undefined) {
      codec.setU8(view, 24, Number(value.transmitByRedirect), "transmit_by_redirect");
    }
    return bytes;
  },
  decode: (bytes: Uint8Array): ProbeRodata => {
    const view = codec.exactView(bytes, 4756, ".rodata of probe");
    return {
      featureL2: view.getUint8(0) !== 0,
      featureIpip: view.getUint8(1) !== 0,
      featureGue: view.getUint8(2) !== 0,
      featureGre: view.getUint8(3) !== 0,
      featureNat: view.getUint8(4) !== 0,
      featureMssClamp: view.getUint8(5) !== 0,
      featureTunnelVariation: view.getUint8(6) !== 0,
      featureWildcard: view.getUint8(7) !== 0,
      featureRegions: view.getUint8(8) !== 0,
      featureTracking: view.getUint8(9) !== 0,
      featurePick: view.getUint8(10) !== 0,
      featureAffinity: view.getUint8(11) !== 0,
      featureMinimal: view.getUint8(12) !== 0,
      featureSample: view.getUint8(13) !== 0,
      featureSecondChance: view.getUint8(14) !== 0,
      featurePolicy: view.getUint8(15) !== 0,
      featureSourceHash: view.getUint8(16) !== 0,
      featureOrphan: view.getUint8(17) !== 0,
      featureQuicLb: view.getUint8(18) !== 0,
      featureIcmpErrors: view.getUint8(19) !== 0,
      featureTunnelErrors: view.getUint8(20) !== 0,
      ringClassSmall: view.getUint8(21) !== 0,
      ringClassMedium: view.getUint8(22) !== 0,
      ringClassLarge: view.getUint8(23) !== 0,
      transmitByRedirect: view.getUint8(24) !== 0,
    };
  },
} as const;
