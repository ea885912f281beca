/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Which backend a packet of a service goes to, by the flow table, the ring or a pick, and what is written to
 * `flows` for it. Hash first: with TRACKING_MINIMAL no state is read unless the slot is marked.
 * src/model/flow_decide.ts is its twin.
 */
#pragma once

#include "affinity.h"
#include "alternates.h"
#include "destination.h"
#include "pick.h"
#include "service_version.h"
#include "slot.h"
#include "untracked.h"

enum { TOUCH_INTERVAL_NS = 1000000000 };

/* What is to be written to `flows` or `nat_flows` once the packet is on its way. */
enum effect { EFFECT_NONE = 0, EFFECT_TOUCH, EFFECT_REMEMBER, EFFECT_CLAIM };

enum { NAMED_WORDS_MASK = 15, NAMED_WORDS_MAX_SHIFT = 4 };

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
	__u8 outcome;           /* enum tracking_outcome; TRACKING_OUTCOMES: none */
	__u8 pace;              /* enum remember_kind of what is remembered; REMEMBER_KINDS: at any pace */
	__u16 mss_max;          /* of the service; 0: no limit */
	__u16 alternates[NAMED_MAX]; /* ids of who else may have the flow; 0: nobody, and none behind it */
	__u8 named_words;       /* that their names take in the outer headers; in the upper four bits, that such
				 * names may take: left free in every packet of the service, or the size that
				 * senders are told to fit would change with each slot */
	__u8 action;            /* enum xdp_action of the TX verdicts */
	__be32 tunnel_source_mask; /* of the destination, if tunnels lead there */
	__u32 flow_hash;        /* of the 5-tuple; set where the outer header varies by it, or the flow may be
				 * one that is looked at */
};

/* The stack of the main function, which holds one, is as deep as that of Linux 6.1 may be. */
_Static_assert(sizeof(struct choice) == 64, "a cache line");

/* What flow_entry.other is after this packet: a flow that has begun anew has not ended. */
static __always_inline __u16 marked(const struct packet *packet, __u16 other)
{
	if (packet->opens)
		return other & FLOW_OTHER_MASK;
	return packet->closes ? other | FLOW_CLOSES : other;
}

/* Whether a flow that has this destination may keep it. */
static __always_inline bool may_keep(const struct packet *packet,
				     const struct service_version *version, __u32 flags)
{
	return may_have(version, flags, packet->opens);
}

/* Follows the flow to the destination it has, if that is still the one it was and may keep it. A
 * new connection that reuses the addresses and ports of an old one counts as new. */
static __always_inline bool follow_flow(const struct packet *packet,
					const struct service_version *version,
					struct choice *choice)
{
	struct flow_entry *entry = bpf_map_lookup_elem(&flows, &packet->flow);
	const struct destination *destination;
	__u64 last_seen_ns;
	__u32 id;

	choice->entry = entry;
	if (!entry)
		return false;
	last_seen_ns = *(volatile __u64 *)&entry->last_seen_ns;
	if (last_seen_ns + version->flow_idle_ms * 1000000ull < choice->now_ns ||
	    last_seen_ns < version->remembered_since_ns)
		return false;
	id = entry->destination;
	destination = bpf_map_lookup_elem(&destinations, &id);
	if (!destination || destination->generation != entry->generation ||
	    !may_keep(packet, version, destination->flags))
		return false;
	choice->destination = destination;
	choice->id = id;
	choice->effect = last_seen_ns + TOUCH_INTERVAL_NS < choice->now_ns ||
			 ((packet->opens | packet->closes) && marked(packet, entry->other) != entry->other) ?
			 EFFECT_TOUCH : EFFECT_NONE;
	return true;
}

static __always_inline __u64 *own_pace(__u32 service, __u32 kind)
{
	__u32 element = service * 2 + (kind == REMEMBER_TCP_OTHER);

	return bpf_map_lookup_elem(&service_pace, &element);
}

/* Whether all services may remember one more flow of this kind, beside the reserve. */
static __always_inline bool is_open_to_all(const struct remember_pace *pace, __u64 now_ns)
{
	return *(volatile __u64 *)&pace->next_ns + pace->interval_ns <= now_ns + pace->burst_ns / 2;
}

/* Whether one more flow may be remembered: no flood can fill the table, and a flood at one service
 * leaves the others their share (the generic cell rate algorithm, ITU-T I.371; isInPace() in
 * src/model/remember_pace.ts). Who is refused has written nothing. */
static __noinline int may_remember(__u64 now_ns, __u32 kind, __u32 service)
{
	struct remember_pace *pace = bpf_map_lookup_elem(&remember_pace, &kind);
	__u64 *own = own_pace(service, kind);

	if (!pace || !own)
		return 0;
	if (is_open_to_all(pace, now_ns))
		return 1;
	return *(volatile __u64 *)&pace->next_ns + pace->interval_ns <= now_ns + pace->burst_ns &&
	       *(volatile __u64 *)own + pace->own_interval_ns <= now_ns + pace->burst_ns;
}

/* CPUs that do this at one time may grant a flow each where one was left, and where a rest ends the
 * store of one may undo the addition of another: a few flows too many, never a refusal. */
static __always_inline void charge(__u64 *next_ns, __u64 interval_ns, __u64 now_ns)
{
	if (*(volatile __u64 *)next_ns < now_ns)
		*(volatile __u64 *)next_ns = now_ns;
	__sync_fetch_and_add(next_ns, interval_ns);
}

/* One was remembered. */
static __noinline int keep_pace(__u64 now_ns, __u32 kind, __u32 service)
{
	struct remember_pace *pace = bpf_map_lookup_elem(&remember_pace, &kind);
	__u64 *own = own_pace(service, kind);

	if (!pace || !own)
		return 0;
	if (!is_open_to_all(pace, now_ns))
		charge(own, pace->own_interval_ns, now_ns);
	charge(&pace->next_ns, pace->interval_ns, now_ns);
	return 0;
}

/* The flow is remembered with the destination that it goes to now. */
static __always_inline void remember(struct choice *choice)
{
	choice->effect = EFFECT_REMEMBER;
	choice->generation = choice->destination->generation;
}

/* A slot that is changing, and a flow that nobody remembers: what opens goes to the owner, anything
 * else to whoever owned the slot before, and both are remembered. What may not be remembered now
 * goes where its next packets will. */
static __always_inline void choose_while_changing(const struct packet *packet,
						  struct choice *choice, __u32 untracked)
{
	const struct destination *before = bpf_map_lookup_elem(&destinations, &untracked);
	__u32 flags = is_given(before) ? before->flags : 0;
	bool remembers = true, keeps;

	choice->pace = REMEMBER_KINDS;
	/* Where an entry stands, it is replaced: nobody is to follow it again. */
	if (choice->tracking != TRACKING_FULL && !choice->entry) {
		choice->pace = packet->flow.service.protocol == IPPROTO_UDP ? REMEMBER_UDP
			     : packet->opens ? REMEMBER_TCP_OPENED : REMEMBER_TCP_OTHER;
		remembers = may_remember(choice->now_ns, choice->pace, choice->service);
	}
	keeps = flags & DESTINATION_LIVE && (!packet->opens || !remembers);
	if (keeps) {
		choice->destination = before;
		choice->id = untracked;
	}
	choice->outcome = packet->opens ? TRACKING_BEGAN : keeps ? TRACKING_KEPT : TRACKING_LOST;
	if (!is_given(choice->destination))
		return;
	/* TCP that is lost is not remembered: its owner may come back. Datagrams may be a new flow. */
	if (choice->outcome == TRACKING_LOST && packet->flow.service.protocol == IPPROTO_TCP)
		return;
	if (remembers)
		remember(choice);
	else
		choice->outcome = TRACKING_UNREMEMBERED;
}

static __noinline int count_flow(__u32 event)
{
	__u64 *count = bpf_map_lookup_elem(&flow_counts, &event);

	if (count)
		*count += 1;
	return 0;
}

/* Whether the packet begins a flow. A datagram without an entry may be of a flow from before the window. */
static __always_inline bool is_new(const struct packet *packet,
				   const struct service_version *version,
				   const struct choice *choice, __u32 hash)
{
	if (packet->role == ROLE_ICMP_ERROR)
		return false;
	if (packet->flow.service.protocol == IPPROTO_TCP)
		return packet->opens;
	return !untracked_owner(packet, version, choice->service, hash, choice->now_ns);
}

/* A flow with nobody to go to is forgotten. */
static __always_inline void forget(const struct packet *packet, const struct choice *choice)
{
	__u32 id = choice->entry->destination;
	bool closed = choice->entry->other & FLOW_CLOSES;

	if (bpf_map_delete_elem(&flows, &packet->flow))
		return;
	count_flow(FLOW_FORGOTTEN);
	if (feature_pick && choice->tracking == TRACKING_FULL && !closed)
		count_load(choice->service, id, -1);
}

static __always_inline enum verdict choose_anew(const struct packet *packet,
						   const struct service_version *version,
						   struct choice *choice)
{
	__u32 hash = hash_of(packet, &version->scheme);
	__u32 affine_id = feature_affinity && version->affinity_ms ? affine(packet, version, choice->now_ns) : 0;
	bool picks = feature_pick && !affine_id && version->pick && is_new(packet, version, choice, hash);
	__u32 word = affine_id ? affine_id : picks ? pick(element_of(choice->service, version), hash)
			   : word_in_ring(&version->scheme, hash);
	bool looks = feature_tracking && choice->tracking == TRACKING_FULL;

	if (feature_minimal && !picks && choice->tracking == TRACKING_MINIMAL && word & SLOT_EXCEPTION) {
		looks = true;
		if (!feature_orphan && !feature_nat)
			choice->now_ns = bpf_ktime_get_coarse_ns();
		choice->outcome = TRACKING_FOLLOWED;
		if (follow_flow(packet, version, choice)) {
			choice->flow_hash = hash;
			return VERDICT_CONTINUE;
		}
		choice->outcome = TRACKING_SETTLED;
	}
	if (feature_tunnel_variation || feature_gue || feature_sample)
		choice->flow_hash = hash;
	choice->id = word & SLOT_BACKEND_MASK;
	choice->destination = choice->id ? bpf_map_lookup_elem(&destinations, &choice->id) : NULL;
	if (looks && !picks && !affine_id) {
		word = untracked_owner(packet, version, choice->service, hash, choice->now_ns);
		if (word) {
			choose_while_changing(packet, choice, word & SLOT_BACKEND_MASK);
			looks = false;
		}
	}
	if (!is_given(choice->destination)) {
		if (choice->entry && packet->role != ROLE_ICMP_ERROR)
			forget(packet, choice);
		return DROP_NO_BACKEND;
	}
	if (!looks)
		return VERDICT_CONTINUE;
	if (choice->tracking == TRACKING_FULL)
		remember(choice);
	else if (choice->entry && (packet->opens || packet->flow.service.protocol == IPPROTO_UDP)) {
		/* Another flow from now on, also when the backend of the old one comes back. */
		choice->outcome = packet->opens ? TRACKING_BEGAN : TRACKING_LOST;
		choice->pace = REMEMBER_KINDS;
		remember(choice);
	}
	return VERDICT_CONTINUE;
}

/* An outer header may vary by flow, by its source address or, in GUE, its source port: always by the
 * 5-tuple, since all flows of one client would look alike where the service hashes clients. The same
 * goes for flows that are looked at. A packet that the ring placed may have that hash already. */
static __always_inline void vary_by_flow(const struct packet *packet,
					const struct service_version *version,
					struct choice *choice, bool by_ring)
{
	const struct destination *destination = choice->destination;
	bool varies_port = feature_gue && destination->forwarding == FORWARDING_GUE;

	choice->tunnel_source_mask = 0;
	if (feature_tunnel_variation && destination->forwarding != FORWARDING_L2)
		choice->tunnel_source_mask = destination->tunnel_source_mask;
	if (!varies_port && !choice->tunnel_source_mask &&
	    !(feature_sample && choice->tracking != TRACKING_FULL))
		return;
	if (!by_ring || version->scheme.hash_input != HASH_5_TUPLE)
		choice->flow_hash = flow_hash_of(packet, &version->scheme);
}

static __noinline int count_outcome(__u32 outcome)
{
	__u64 *count = bpf_map_lookup_elem(&tracking_counts, &outcome);

	if (count)
		*count += 1;
	return 0;
}

/* The client's flow begins at this backend, or has gone on there. A flow from before the client went elsewhere does not
 * bring it back. */
static __noinline int renew_affinity(const struct packet *packet, const struct choice *choice)
{
	const struct service_version *version = active_version(choice->service);
	__u32 generation = choice->destination->generation;
	struct flow_entry *held, entry = {};
	struct affinity_key key;

	if (!version || !version->affinity_ms)
		return 0;
	affinity_key(&key, packet, version);
	held = bpf_map_lookup_elem(&affinities, &key);
	if (held && held->destination == choice->id && held->generation == generation) {
		held->last_seen_ns = choice->now_ns;
		return 0;
	}
	if (choice->effect == EFFECT_TOUCH)
		return 0;
	entry.last_seen_ns = choice->now_ns;
	entry.generation = generation;
	entry.destination = choice->id;
	return bpf_map_update_elem(&affinities, &key, &entry, BPF_ANY);
}

/* Writes what was decided. A packet that did not get away is not here: it leaves no trace. */
static __always_inline bool settle(const struct packet *packet, const struct choice *choice)
{
	bool loads = feature_pick && choice->tracking == TRACKING_FULL;
	struct flow_entry entry;
	__u32 before = 0;

	if (feature_affinity && choice->effect != EFFECT_NONE)
		renew_affinity(packet, choice);
	if (choice->effect == EFFECT_TOUCH && choice->entry) {
		choice->entry->last_seen_ns = choice->now_ns;
		if (packet->opens | packet->closes) {
			__u16 other = choice->entry->other, after = marked(packet, other);

			choice->entry->other = after;
			if (loads && (other ^ after) & FLOW_CLOSES)
				count_load(choice->service, choice->id, after & FLOW_CLOSES ? -1 : 1);
		}
	}
	if (feature_minimal && choice->outcome < TRACKING_OUTCOMES && choice->tracking == TRACKING_MINIMAL)
		count_outcome(choice->outcome);
	if (choice->effect != EFFECT_REMEMBER)
		return false;
	if (feature_minimal && choice->pace != REMEMBER_KINDS)
		keep_pace(choice->now_ns, choice->pace, choice->service);
	entry.last_seen_ns = choice->now_ns;
	entry.generation = choice->generation;
	entry.destination = choice->id;
	/* Which of the two has it, nobody here will ever know. */
	entry.other = feature_second_chance && choice->outcome == TRACKING_KEPT ? choice->alternates[0] : 0;
	entry.other = marked(packet, entry.other);
	if (loads && choice->entry && !(choice->entry->other & FLOW_CLOSES))
		before = choice->entry->destination;
	if (bpf_map_update_elem(&flows, &packet->flow, &entry, BPF_ANY)) {
		count_flow(FLOW_REFUSED);
		return false;
	}
	if (!choice->entry)
		count_flow(FLOW_WRITTEN);
	if (before)
		count_load(choice->service, before, -1);
	if (loads && !(entry.other & FLOW_CLOSES))
		count_load(choice->service, choice->id, 1);
	return true;
}
