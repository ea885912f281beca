/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What becomes of a packet, in this order: for this host or not, fragment, answer to a translated
 * flow, service, policy, orphan, connection ID, flow, ring. Knows the maps that look-ups need; knows
 * no byte of the frame and writes nothing but `flows`. decide() in src/model/decide.ts is its twin:
 * same order, same verdicts, same effects.
 */
#pragma once

#include "flow_hash.h"
#include "fragment.h"
#include "link_address.h"
#include "maps.h"
#include "nat.h"
#include "orphan.h"
#include "packet.h"
#include "policy.h"
#include "quic.h"
#include "tunnel_error.h"

enum { TOUCH_INTERVAL_NS = 1000000000 };

/* What is to be written to `flows` or `nat_flows` once the packet is on its way. */
enum effect { EFFECT_NONE = 0, EFFECT_TOUCH, EFFECT_REMEMBER, EFFECT_CLAIM };

struct choice {
	const struct destination *destination;
	struct flow_entry *entry; /* the flow's, whether it was followed or not; NULL: none */
	struct nat_flow *nat;   /* the same of a translated flow, in either direction */
	__u64 now_ns;
	__u32 service;
	__u32 id;               /* of the destination */
	__u32 generation;
	__u8 effect;            /* enum effect */
	__u8 tracking;          /* enum tracking */
	__u16 mss_max;          /* of the service; 0: no limit */
	__be32 tunnel_source_mask; /* of the destination, if tunnels lead there */
	__u32 flow_hash;        /* of the 5-tuple; set where the outer header varies by it */
	int action;             /* enum xdp_action of the TX verdicts */
};

/* The group of the longest prefix that holds the address. */
static __always_inline const __u32 *group_of(const __u8 *address)
{
	struct address_prefix prefix = { .prefix_bits = 128 };

	copy_address(prefix.address, address);
	return bpf_map_lookup_elem(&address_groups, &prefix);
}

static __always_inline bool is_virtual_address(const __u8 *address)
{
	if (bpf_map_lookup_elem(&virtual_addresses, address))
		return true;
	return feature_wildcard && group_of(address);
}

/* Most specific wins: nothing is more specific than one address with one port; then the longest
 * prefix, and in it the narrowest range of ports. serviceOf() in src/model/service_lookup.ts. */
static __always_inline const __u32 *service_of(const struct service_key *key)
{
	const __u32 *service = bpf_map_lookup_elem(&services, key);
	struct port_prefix ports = { .prefix_bits = 48 + 16 };
	const __u32 *group;

	if (service || !feature_wildcard)
		return service;
	group = group_of(key->address);
	if (!group)
		return NULL;
	ports.group = bpf_htonl(*group);
	ports.protocol = key->protocol;
	ports.port = key->port;
	return bpf_map_lookup_elem(&group_services, &ports);
}

/* Nothing without ports is for a service; for a virtual address it has a verdict of its own. An
 * ICMP error that quotes no service's packet comes here too. */
static __noinline int decide_without_ports(const struct packet *packet)
{
	if (!is_virtual_address(packet->flow.service.address))
		return PASS_NOT_OURS;
	switch (packet->kind) {
	case KIND_ECHO_REQUEST:
		return TX_ECHO_REPLY;
	case KIND_ICMP:
	case KIND_FLOW: /* ROLE_ICMP_ERROR */
		return PASS_ICMP;
	case KIND_LATER_FRAGMENT:
		return PASS_FRAGMENT;
	case KIND_TRUNCATED:
		return PASS_TRUNCATED;
	default:
		return PASS_PROTOCOL;
	}
}

/* The one read of service_active: everything else about the service is derived from it. */
static __always_inline const struct service_version *active_version(__u32 service)
{
	volatile __u32 *active = bpf_map_lookup_elem(&service_active, &service);
	__u32 element;

	if (!active)
		return NULL;
	element = service * 2 + (*active & 1);
	return bpf_map_lookup_elem(&service_versions, &element);
}

/* Follows the flow to the destination it has, if that is still the one it was and may keep it. A
 * new connection that reuses the addresses and ports of an old one counts as new. */
static __always_inline bool follow_flow(const struct packet *packet,
					const struct service_version *version,
					struct choice *choice)
{
	__u32 wanted = packet->opens ? DESTINATION_LIVE | DESTINATION_ADMITS : DESTINATION_LIVE;
	struct flow_entry *entry = bpf_map_lookup_elem(&flows, &packet->flow);
	const struct destination *destination;
	__u64 last_seen_ns;
	__u32 id;

	choice->entry = entry;
	if (!entry)
		return false;
	last_seen_ns = *(volatile __u64 *)&entry->last_seen_ns;
	if (last_seen_ns + version->flow_idle_ns < choice->now_ns)
		return false;
	id = entry->destination;
	destination = bpf_map_lookup_elem(&destinations, &id);
	if (!destination || destination->generation != entry->generation ||
	    (destination->flags & wanted) != wanted)
		return false;
	choice->destination = destination;
	choice->id = id;
	choice->effect = last_seen_ns + TOUCH_INTERVAL_NS < choice->now_ns ? EFFECT_TOUCH : EFFECT_NONE;
	return true;
}

#define SLOT_OF(rings, slots_max)                                             \
	do {                                                                  \
		__u32 only = 0;                                               \
		void *inner = bpf_map_lookup_elem(&rings, &version->ring_id); \
		__u16 *slots = inner ? bpf_map_lookup_elem(inner, &only) : NULL; \
									      \
		/* Or clang drops the check that the verifier wants to see. */ \
		asm volatile("" : "+r"(slot));                                \
		if (slots && slot < slots_max)                                \
			return slots[slot] & SLOT_BACKEND_MASK;               \
	} while (0)

static __always_inline __u32 flow_hash_of(const struct packet *packet,
					  const struct service_version *version)
{
	const struct flow_key *flow = &packet->flow;

	return flow_hash(version->hash_seed, flow->source, flow->source_port, flow->service.address,
			 flow->service.port, flow->service.protocol);
}

static __always_inline __u32 hash_of(const struct packet *packet,
				     const struct service_version *version)
{
	const struct flow_key *flow = &packet->flow;

	if (feature_source_hash && version->hash_input == HASH_SOURCE_IP)
		return source_hash(version->hash_seed, flow->source,
				   packet->family == 4 ? 96 + version->source_prefix_ipv4
						       : version->source_prefix_ipv6);
	return flow_hash_of(packet, version);
}

/* The id in the ring's slot; 0: nobody. */
static __always_inline __u32 id_in_ring(const struct service_version *version, __u32 hash)
{
	__u64 slot = slot_of(hash, version->ring_size);

	if (version->ring_size == 0)
		return 0;
	if (ring_class_small && version->ring_class == RING_SMALL)
		SLOT_OF(rings_small, RING_SMALL_SLOTS);
	else if (ring_class_medium && version->ring_class == RING_MEDIUM)
		SLOT_OF(rings_medium, RING_MEDIUM_SLOTS);
	else if (ring_class_large && version->ring_class == RING_LARGE)
		SLOT_OF(rings_large, RING_LARGE_SLOTS);
	return 0;
}

static __always_inline enum verdict choose_by_ring(const struct packet *packet,
						   const struct service_version *version,
						   struct choice *choice)
{
	__u32 hash = hash_of(packet, version);

	if (feature_tunnel_variation || feature_gue)
		choice->flow_hash = hash;
	choice->id = id_in_ring(version, hash);
	choice->destination = choice->id ? bpf_map_lookup_elem(&destinations, &choice->id) : NULL;
	if (!choice->destination || choice->destination->forwarding == FORWARDING_NONE) {
		if (choice->entry && packet->role != ROLE_ICMP_ERROR)
			bpf_map_delete_elem(&flows, &packet->flow);
		return DROP_NO_BACKEND;
	}
	if (choice->tracking == TRACKING_FULL) {
		choice->generation = choice->destination->generation;
		choice->effect = EFFECT_REMEMBER;
	}
	return VERDICT_CONTINUE;
}

/* An outer header may vary by flow, by its source address or, in GUE, its source port: always by the
 * 5-tuple, since all flows of one client would look alike where the service hashes clients. A
 * packet that the ring placed may have that hash already. */
static __always_inline void vary_tunnel(const struct packet *packet,
					const struct service_version *version,
					struct choice *choice, bool by_ring)
{
	const struct destination *destination = choice->destination;
	bool varies_port = feature_gue && destination->forwarding == FORWARDING_GUE;

	choice->tunnel_source_mask = 0;
	if (feature_tunnel_variation && destination->forwarding != FORWARDING_L2)
		choice->tunnel_source_mask = destination->tunnel_source_mask;
	if (!varies_port && !choice->tunnel_source_mask)
		return;
	if (!by_ring || version->hash_input != HASH_5_TUPLE)
		choice->flow_hash = flow_hash_of(packet, version);
}

/* Sends the packet to the destination that its connection ID names. A flow that goes nowhere yet is
 * remembered with it; one that goes elsewhere stays there. */
static __always_inline bool follow_cid(struct choice *choice, __u32 named, bool followed)
{
	const struct destination *destination = bpf_map_lookup_elem(&destinations, &named);

	if (!destination)
		return false;
	if (followed && choice->id != named)
		choice->effect = EFFECT_NONE;
	if (!followed && choice->tracking == TRACKING_FULL) {
		choice->generation = destination->generation;
		choice->effect = EFFECT_REMEMBER;
	}
	choice->destination = destination;
	choice->id = named;
	return true;
}

/* Follows a translated flow to its backend; the same rules as for any other flow. */
static __always_inline bool follow_nat(const struct packet *packet, struct choice *choice,
				       struct nat_flow *held)
{
	__u32 wanted = packet->opens ? DESTINATION_LIVE | DESTINATION_ADMITS : DESTINATION_LIVE;
	const struct destination *destination;
	__u64 last_seen_ns;
	__u32 id;

	if (!held)
		return false;
	id = held->destination;
	destination = bpf_map_lookup_elem(&destinations, &id);
	if (!destination || destination->generation != held->generation ||
	    (destination->flags & wanted) != wanted)
		return false;
	last_seen_ns = *(volatile __u64 *)&held->last_seen_ns;
	choice->nat = held;
	choice->destination = destination;
	choice->id = id;
	choice->effect = last_seen_ns + TOUCH_INTERVAL_NS < choice->now_ns ? EFFECT_TOUCH : EFFECT_NONE;
	return true;
}

/* A flow that is translated stays where it is, whatever its connection ID says: answers know one way
 * back. An error about a flow that nobody knows has nobody to be translated for. */
static __always_inline enum verdict decide_nat(const struct packet *packet,
					       const struct service_version *version,
					       struct choice *choice, __u32 named,
					       struct nat_flow *held)
{
	enum verdict verdict;

	choice->tracking = TRACKING_NONE;
	if (follow_nat(packet, choice, held))
		return VERDICT_CONTINUE;
	if (packet->role == ROLE_ICMP_ERROR)
		return PASS_ICMP;
	if (!named || !follow_cid(choice, named, false)) {
		verdict = choose_by_ring(packet, version, choice);
		if (verdict != VERDICT_CONTINUE)
			return verdict;
	}
	choice->effect = EFFECT_CLAIM;
	choice->generation = choice->destination->generation;
	choice->flow_hash = flow_hash_of(packet, version);
	return VERDICT_CONTINUE;
}

/* What a backend answers, or what its side of the network says of a packet to it. */
static __always_inline enum verdict decide_reply(const struct packet *packet, struct choice *choice,
						 struct nat_flow *held)
{
	if (packet->ttl <= 1)
		return DROP_TTL_EXPIRED;
	choice->nat = held;
	choice->service = held->service;
	choice->id = held->destination;
	return packet->role == ROLE_ICMP_ERROR ? TX_ICMP_ERROR : TX_REPLY;
}

static __always_inline enum verdict decide(struct xdp_md *ctx, struct packet *packet,
					   struct choice *choice)
{
	const struct service_version *version;
	struct nat_flow *held = NULL;
	enum verdict verdict;
	__u32 named = 0;
	bool followed;
	const __u32 *service;

	if (!is_for_this_host(ctx))
		return PASS_OTHER_HOST;
	if (packet->kind != KIND_FLOW && !follows_first(packet))
		return decide_without_ports(packet);
	if (feature_tunnel_errors && packet->role == ROLE_ICMP_ERROR && is_about_tunnel(ctx, packet))
		return DROP_TUNNEL_ERROR;
	/* Before any service: a source of flows may be an address of one, and its ports too. */
	if (feature_nat) {
		choice->nat = NULL;
		held = bpf_map_lookup_elem(&nat_flows, &packet->flow);
		if (held && held->flags & NAT_REPLY)
			return decide_reply(packet, choice, held);
	}
	service = service_of(&packet->flow.service);
	if (!service)
		return packet->role == ROLE_ICMP_ERROR ? decide_without_ports(packet) : PASS_NOT_OURS;
	choice->service = *service;
	choice->entry = NULL;
	choice->effect = EFFECT_NONE;
	version = active_version(choice->service);
	if (!version)
		return DROP_NO_BACKEND;

	if (feature_policy && version->flags && is_denied(packet, version, choice->service))
		return DROP_DENIED;
	choice->tracking = feature_tracking ? version->tracking : TRACKING_NONE;
	choice->mss_max = feature_mss_clamp ? version->mss_max : 0;
	if (feature_orphan || feature_nat || choice->tracking == TRACKING_FULL)
		choice->now_ns = bpf_ktime_get_coarse_ns();
	if (feature_orphan) {
		verdict = decide_orphaned(choice->now_ns);
		if (verdict != VERDICT_CONTINUE)
			return verdict;
	}
	if (feature_quic_lb && version->flags & SERVICE_QUIC_LB && packet->role == ROLE_PACKET)
		named = named_by_cid(ctx, packet, choice->service);
	if (feature_nat && version->flags & SERVICE_NAT)
		return decide_nat(packet, version, choice, named, held);
	followed = choice->tracking == TRACKING_FULL && follow_flow(packet, version, choice);
	if (feature_quic_lb && named)
		followed = follow_cid(choice, named, followed);
	if (!followed) {
		verdict = choose_by_ring(packet, version, choice);
		if (verdict != VERDICT_CONTINUE)
			return verdict;
	}
	if (feature_tunnel_variation || feature_gue)
		vary_tunnel(packet, version, choice, !followed);
	return VERDICT_CONTINUE;
}

/* Writes what was decided. A packet that did not get away is not here: it leaves no trace. */
static __always_inline bool settle(const struct packet *packet, const struct choice *choice)
{
	struct flow_entry entry;

	if (choice->effect == EFFECT_TOUCH && choice->entry)
		choice->entry->last_seen_ns = choice->now_ns;
	if (choice->effect != EFFECT_REMEMBER)
		return false;
	entry.last_seen_ns = choice->now_ns;
	entry.generation = choice->generation;
	entry.destination = choice->id;
	return bpf_map_update_elem(&flows, &packet->flow, &entry, BPF_ANY) == 0;
}
