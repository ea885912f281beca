/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What becomes of a packet, in this order: for this host or not, fragment, answer to a translated
 * flow, service, policy, orphan, region, connection ID, flow and ring (choice.h). Knows the maps that look-ups
 * need; knows no byte of the frame. decide() in src/model/decide.ts is its twin: same order, same
 * verdicts, same effects.
 */
#pragma once

#include "choice.h"
#include "fragment.h"
#include "link_address.h"
#include "maps.h"
#include "named.h"
#include "nat.h"
#include "orphan.h"
#include "packet.h"
#include "policy.h"
#include "quic.h"
#include "regions.h"
#include "tunnel_error.h"

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

/* Sends the packet to the destination that its connection ID names. A flow that goes nowhere yet is
 * remembered with it; one that goes elsewhere stays there. */
static __always_inline bool follow_cid(struct choice *choice, __u32 named, bool followed)
{
	const struct destination *destination = bpf_map_lookup_elem(&destinations, &named);

	if (!destination)
		return false;
	if (followed && choice->id != named)
		choice->effect = EFFECT_NONE;
	choice->destination = destination;
	choice->id = named;
	if (!followed && choice->tracking == TRACKING_FULL)
		remember(choice);
	return true;
}

/* What a packet of a translated flow may count on where it may not keep its backend. */
enum fate { FATE_LOST, FATE_KEPT, FATE_RESET };

/* A segment of a connection whose backend was taken out is answered with a reset, whichever side sent it; a reset
 * itself is not (RFC 9293, 3.5.2), and goes on, so that the other side hears it. */
static __always_inline enum fate fate_of(const struct packet *packet,
					 const struct destination *destination)
{
	if ((destination->flags & (DESTINATION_LIVE | DESTINATION_RESETS)) != DESTINATION_RESETS ||
	    packet->role != ROLE_PACKET || packet->flow.service.protocol != IPPROTO_TCP)
		return FATE_LOST;
	if (packet->closes & TCP_RST)
		return FATE_KEPT;
	return packet->acknowledges ? FATE_RESET : FATE_LOST;
}

/* Follows a translated flow to its backend; the same rules as for any other flow, but for fate_of(). */
static __always_inline enum fate follow_nat(const struct packet *packet,
					    const struct service_version *version,
					    struct choice *choice, struct nat_flow *held)
{
	const struct destination *destination;
	__u64 last_seen_ns;
	enum fate fate;
	__u32 id;

	if (!held)
		return FATE_LOST;
	id = held->destination;
	destination = bpf_map_lookup_elem(&destinations, &id);
	if (!destination || destination->generation != held->generation)
		return FATE_LOST;
	choice->nat = held;
	fate = may_keep(packet, version, destination->flags) ? FATE_KEPT : fate_of(packet, destination);
	if (fate != FATE_KEPT)
		return fate;
	last_seen_ns = *(volatile __u64 *)&held->last_seen_ns;
	choice->destination = destination;
	choice->id = id;
	choice->effect = last_seen_ns + TOUCH_INTERVAL_NS < choice->now_ns ? EFFECT_TOUCH : EFFECT_NONE;
	return FATE_KEPT;
}

/* A flow that is translated stays where it is, whatever its connection ID says: answers know one way
 * back. An error about a flow that nobody knows has nobody to be translated for. */
static __always_inline enum verdict decide_nat(const struct packet *packet,
					       const struct service_version *version,
					       struct choice *choice, __u32 named,
					       struct nat_flow *held)
{
	enum verdict verdict;
	enum fate fate;

	choice->tracking = TRACKING_NONE;
	fate = follow_nat(packet, version, choice, held);
	if (fate != FATE_LOST)
		return fate == FATE_RESET ? TX_RESET : VERDICT_CONTINUE;
	if (packet->role == ROLE_ICMP_ERROR)
		return PASS_ICMP;
	if (!named || !follow_cid(choice, named, false)) {
		verdict = choose_anew(packet, version, choice);
		if (verdict != VERDICT_CONTINUE)
			return verdict;
	}
	choice->effect = EFFECT_CLAIM;
	choice->generation = choice->destination->generation;
	choice->flow_hash = flow_hash_of(packet, &version->scheme);
	return VERDICT_CONTINUE;
}

/* What a backend answers, or what its side of the network says of a packet to it. */
static __always_inline enum verdict decide_reply(const struct packet *packet, struct choice *choice,
						 struct nat_flow *held)
{
	__u32 id = held->destination;
	const struct destination *destination = bpf_map_lookup_elem(&destinations, &id);

	choice->nat = held;
	if (destination && destination->generation == held->generation &&
	    fate_of(packet, destination) == FATE_RESET)
		return TX_RESET;
	if (packet->ttl <= 1)
		return DROP_TTL_EXPIRED;
	choice->service = held->service;
	choice->id = id;
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
	__u32 element;
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
	choice->tracking = feature_tracking || feature_minimal ? version->tracking : TRACKING_NONE;
	choice->outcome = TRACKING_OUTCOMES;
	choice->pace = REMEMBER_KINDS;
	if (feature_sample)
		choice->flow_hash = ~0u; /* of no flow that is looked at */
	if (feature_second_chance) {
		choice->alternates[0] = 0;
		choice->alternates[1] = 0;
		choice->named_words = 0;
	}
	choice->mss_max = feature_mss_clamp ? version->mss_max : 0;
	if (feature_orphan || feature_nat || choice->tracking == TRACKING_FULL)
		choice->now_ns = bpf_ktime_get_coarse_ns();
	if (feature_orphan) {
		verdict = decide_orphaned(choice->now_ns);
		if (verdict != VERDICT_CONTINUE)
			return verdict;
	}
	if (feature_regions && version->regions) {
		element = element_of(choice->service, version);
		element = regional_element(high_of(&packet->flow), low_of(&packet->flow), version->regions, choice->service,
					   otherwise(element, element));
		choice->service = element / 2;
		version = bpf_map_lookup_elem(&service_versions, &element);
		if (!version)
			return DROP_NO_BACKEND;
	}
	if (feature_quic_lb && version->flags & SERVICE_QUIC_LB && packet->role == ROLE_PACKET)
		named = named_by_cid(ctx, packet, choice->service);
	if (feature_nat && version->flags & SERVICE_NAT)
		return decide_nat(packet, version, choice, named, held);
	followed = feature_tracking && choice->tracking == TRACKING_FULL &&
		   follow_flow(packet, version, choice);
	if (feature_quic_lb && named)
		followed = follow_cid(choice, named, followed);
	if (!followed) {
		verdict = choose_anew(packet, version, choice);
		if (verdict != VERDICT_CONTINUE)
			return verdict;
	}
	if (feature_tunnel_variation || feature_gue || feature_sample)
		vary_by_flow(packet, version, choice, !followed);
	if (feature_second_chance && version->flags & SERVICE_SECOND_CHANCE)
		name_alternates(packet, version, choice);
	return VERDICT_CONTINUE;
}
