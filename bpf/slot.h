/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The slot of a packet, by what its service hashes, and what stands in it. Knows rings; knows no
 * backend. slotBy() in src/model/slot.ts is its twin.
 */
#pragma once

#include "flow_hash.h"
#include "maps.h"
#include "packet.h"

static __always_inline __u32 five_tuple_hash(const struct flow_key *flow, const struct slot_scheme *scheme)
{
	return flow_hash(scheme->hash_seed, flow->source, flow->source_port, flow->service.address,
			 flow->service.port, flow->service.protocol);
}

static __always_inline __u32 flow_hash_of(const struct packet *packet,
					  const struct slot_scheme *scheme)
{
	return five_tuple_hash(&packet->flow, scheme);
}

static __always_inline __u32 hash_of_flow(const struct flow_key *flow, const struct slot_scheme *scheme)
{
	if (feature_source_hash && scheme->hash_input == HASH_SOURCE_IP)
		return source_hash(scheme->hash_seed, flow->source,
				   is_ipv4_mapped(flow->source) ? 96 + scheme->source_prefix_ipv4
								: scheme->source_prefix_ipv6);
	return five_tuple_hash(flow, scheme);
}

static __always_inline __u32 hash_of(const struct packet *packet, const struct slot_scheme *scheme)
{
	return hash_of_flow(&packet->flow, scheme);
}

#define WORD_OF(rings, slots_max)                                             \
	do {                                                                  \
		__u32 only = 0;                                               \
		void *inner = bpf_map_lookup_elem(&rings, &scheme->ring_id);  \
		__u16 *slots = inner ? bpf_map_lookup_elem(inner, &only) : NULL; \
									      \
		/* Or clang drops the check that the verifier wants to see. */ \
		asm volatile("" : "+r"(slot));                                \
		if (slots && slot < slots_max)                                \
			return slots[slot];                                   \
	} while (0)

/* What the ring has in a slot that it has: enum slot_word. 0: nobody. */
static __always_inline __u32 word_at(const struct slot_scheme *scheme, __u64 slot)
{
	if (ring_class_small && scheme->ring_class == RING_SMALL)
		WORD_OF(rings_small, RING_SMALL_SLOTS);
	else if (ring_class_medium && scheme->ring_class == RING_MEDIUM)
		WORD_OF(rings_medium, RING_MEDIUM_SLOTS);
	else if (ring_class_large && scheme->ring_class == RING_LARGE)
		WORD_OF(rings_large, RING_LARGE_SLOTS);
	return 0;
}

/* The same for a hash. */
static __always_inline __u32 word_in_ring(const struct slot_scheme *scheme, __u32 hash)
{
	if (scheme->ring_size == 0)
		return 0;
	return word_at(scheme, slot_of(hash, scheme->ring_size));
}
