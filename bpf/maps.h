/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The maps of the packet path and the switches it is specialised by. Knows shapes and names; what
 * is in a map is the supervisor's business. Capacities here are those of a small plane: the
 * supervisor sets them before loading, except for the inner prototypes, whose size is their class.
 * Keys of arrays are __u32 and never an enum: with an enum the kernel rejects the map's BTF, and
 * libbpf goes on without it.
 */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"

/* A switch that is off takes its code out of the loaded program: rodata is frozen before
 * verification, and the verifier removes what cannot be reached. As compiled, everything is on. */
const volatile bool feature_l2 = true;
const volatile bool feature_ipip = true;
const volatile bool feature_gue = true;
const volatile bool feature_gre = true;
const volatile bool feature_nat = true;
const volatile bool feature_mss_clamp = true;
const volatile bool feature_tunnel_variation = true;
const volatile bool feature_wildcard = true;
const volatile bool feature_regions = true;
const volatile bool feature_tracking = true;
const volatile bool feature_pick = true;
const volatile bool feature_affinity = true;
const volatile bool feature_minimal = true;
const volatile bool feature_sample = true;
const volatile bool feature_second_chance = true;
const volatile bool feature_policy = true;
const volatile bool feature_source_hash = true;
const volatile bool feature_orphan = true;
const volatile bool feature_quic_lb = true;
const volatile bool feature_icmp_errors = true;
const volatile bool feature_tunnel_errors = true;
const volatile bool ring_class_small = true;
const volatile bool ring_class_medium = true;
const volatile bool ring_class_large = true;
/* Transmit by bpf_redirect_map even to the interface a packet came from, as veth needs it (its
 * XDP_TX wants a program on the peer). Off: XDP_TX when egress is ingress, which network cards do
 * faster. */
const volatile bool transmit_by_redirect = false;

/* BTF leaves out enums that no type refers to; these variables do nothing but refer. */
const volatile enum verdict anchor_verdict;
const volatile enum forwarding anchor_forwarding;
const volatile enum gue_variant anchor_gue_variant;
const volatile enum orphan_action anchor_orphan_action;
const volatile enum hash_input anchor_hash_input;
const volatile enum tracking anchor_tracking;
const volatile enum tracking_outcome anchor_tracking_outcome;
const volatile enum flow_event anchor_flow_event;
const volatile enum sample anchor_sample;
const volatile enum remember_kind anchor_remember_kind;
const volatile enum pick anchor_pick;
const volatile enum ring_class anchor_ring_class;
const volatile enum ring_slots anchor_ring_slots;
const volatile enum slot_word anchor_slot_word;
const volatile enum flow_other anchor_flow_other;
const volatile enum destination_flags anchor_destination_flags;
const volatile enum next_hop_flags anchor_next_hop_flags;
const volatile enum link_places anchor_link_places;
const volatile enum next_hop_vlan anchor_next_hop_vlan;
const volatile enum policy_action anchor_policy_action;
const volatile enum service_flags anchor_service_flags;
const volatile enum nat_flags anchor_nat_flags;
const volatile enum nat_sources_at anchor_nat_sources_at;
const volatile enum nat_outcome anchor_nat_outcome;
const volatile enum quic_mode anchor_quic_mode;
const volatile enum quic_outcome anchor_quic_outcome;
const volatile enum decap_verdict anchor_decap_verdict;

/* Has memory for no more than there are. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct link_address);
	__type(value, __u32);           /* flags; none yet */
	__uint(max_entries, 4096);
} link_addresses SEC(".maps");

/* Some of these again, where comparing costs less than the look-up: one of each interface, of as many
 * as there is place for. ifindex 0: empty. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct link_address);
	__uint(max_entries, FIRST_LINK_ADDRESSES);
} first_link_addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct service_key);
	__type(value, __u32);           /* index of the service */
	__uint(max_entries, 1024);
} services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct address_key);
	__type(value, __u32);           /* flags; none yet */
	__uint(max_entries, 1024);
} virtual_addresses SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address_prefix);
	__type(value, __u32);           /* group */
	__uint(max_entries, 1024);
} address_groups SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct port_prefix);
	__type(value, __u32);           /* index of the service */
	__uint(max_entries, 1024);
} group_services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct wildcard_key);
	__type(value, __u32);           /* index of the service */
	__uint(max_entries, 1024);
} wildcards SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);             /* index of the service */
	__type(value, __u32);           /* 0 or 1: the version that counts */
	__uint(max_entries, 1024);
} service_active SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);             /* index of the service × 2 + version */
	__type(value, struct service_version);
	__uint(max_entries, 2048);
} service_versions SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);             /* id */
	__type(value, struct destination);
	__uint(max_entries, 4096);
} destinations SEC(".maps");

/* Has an element for each tunnel of a destination, and memory for no more. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct service_key);
	__type(value, struct tunnel_end);
	__uint(max_entries, 16384);
} tunnel_ends SEC(".maps");

/* A ring is one value, so that it is packed and published with one copy. */
struct ring_small { __u16 slots[RING_SMALL_SLOTS]; };
struct ring_medium { __u16 slots[RING_MEDIUM_SLOTS]; };
struct ring_large { __u16 slots[RING_LARGE_SLOTS]; };

/* The inner prototypes state sizes, not types: clang leaves the struct of an inner map undefined in
 * BTF. */
#define RINGS(ring)                                                  \
	struct ring##_map {                                          \
		__uint(type, BPF_MAP_TYPE_ARRAY);                    \
		__uint(map_flags, BPF_F_MMAPABLE);                   \
		__uint(key_size, sizeof(__u32));                     \
		__uint(value_size, sizeof(struct ring));             \
		__uint(max_entries, 1);                              \
	};                                                           \
	struct {                                                     \
		__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);            \
		__type(key, __u32); /* slot_scheme.ring_id */        \
		__uint(max_entries, 64);                             \
		__array(values, struct ring##_map);                  \
	}

RINGS(ring_small) rings_small SEC(".maps");
RINGS(ring_medium) rings_medium SEC(".maps");
RINGS(ring_large) rings_large SEC(".maps");

/* Shared by all CPUs: a flow may move to another one when interrupts are rebalanced. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow_key);
	__type(value, struct flow_entry);
	__uint(max_entries, 65536);
} flows SEC(".maps");

/* Shared by all CPUs: a client's flows may come by any. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct affinity_key);
	__type(value, struct flow_entry);
	__uint(max_entries, 16384);
} affinities SEC(".maps");

/* Flows that are looked at: enough for a million of all flows. Nobody follows them. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct flow_key);
	__type(value, struct flow_entry);
	__uint(max_entries, 16384);
} sampled_flows SEC(".maps");

/* Shared by all CPUs: with few receive queues, few of them remember flows. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);             /* enum remember_kind */
	__type(value, struct remember_pace);
	__uint(max_entries, REMEMBER_KINDS);
} remember_pace SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);             /* index of the service × 2, + 1 for REMEMBER_TCP_OTHER */
	__type(value, __u64);           /* next_ns of what it has out of the reserve */
	__uint(max_entries, 2048);
} service_pace SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);             /* enum tracking_outcome */
	__type(value, __u64);
	__uint(max_entries, TRACKING_OUTCOMES);
} tracking_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);             /* enum flow_event */
	__type(value, __u64);
	__uint(max_entries, FLOW_EVENTS);
} flow_counts SEC(".maps");

/* Each CPU takes its own turns and draws. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);             /* index of the service */
	__type(value, struct pick_state);
	__uint(max_entries, 1024);
} pick_states SEC(".maps");

/* Flows that are remembered and open, of each destination and of all destinations of a service, as far as
 * packets tell; the supervisor adds what it finds that they did not. May be below zero for a while. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);             /* id */
	__type(value, __s64);
	__uint(max_entries, 4096);
} destination_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);             /* service_version.flows_at */
	__type(value, __s64);
	__uint(max_entries, 1024);
} service_flows SEC(".maps");

/* Never LRU: that would forget one direction, give its port to somebody else, and send them the
 * other one's data. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct flow_key);
	__type(value, struct nat_flow);
	__uint(max_entries, 1024);
} nat_flows SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);             /* enum nat_sources_at and on */
	__type(value, struct address_key);
	__uint(max_entries, NAT_SOURCES_MAX);
} nat_sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);             /* enum nat_outcome */
	__type(value, __u64);
	__uint(max_entries, NAT_OUTCOMES);
} nat_counts SEC(".maps");

/* A datagram's first fragment may come by another CPU than the others. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct fragment_key);
	__type(value, struct fragment_entry);
	__uint(max_entries, 16384);
} fragments SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct policy_key);
	__type(value, __u32);           /* enum policy_action */
	__uint(max_entries, 1024);
} policies SEC(".maps");

/* What an element held may be read for one grace period more. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct quic_config_key);
	__type(value, struct quic_config);
	__uint(max_entries, 8);
} quic_configs SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__type(key, struct quic_server_key);
	__type(value, __u32);           /* id */
	__uint(max_entries, 8);
} quic_servers SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);             /* enum quic_outcome */
	__type(value, __u64);
	__uint(max_entries, QUIC_OUTCOMES);
} quic_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct settings);
	__uint(max_entries, 1);
} settings SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u64);           /* when the next ICMP error is due, CLOCK_MONOTONIC */
	__uint(max_entries, 1);
} icmp_pace SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, __u32);           /* how many outer identifications this CPU has given */
	__uint(max_entries, 1);
} outer_identifications SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_DEVMAP_HASH);
	__type(key, __u32);             /* ifindex */
	__type(value, __u32);           /* the same */
	__uint(max_entries, 64);
} devices SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);             /* enum verdict */
	__type(value, struct verdict_count);
	__uint(max_entries, VERDICTS);
} verdict_counts SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);             /* index of the service */
	__type(value, struct traffic_count);
	__uint(max_entries, 1024);
} service_traffic SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);             /* id */
	__type(value, struct traffic_count);
	__uint(max_entries, 4096);
} destination_traffic SEC(".maps");
