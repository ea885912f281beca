/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Where the clients of a service with an affinity timeout have been of late, and so go again. Knows the map
 * `affinities`; knows no ring and no flow. src/model/affinity.ts is its twin.
 */
#pragma once

#include "destination.h"
#include "flow_hash.h"
#include "maps.h"
#include "packet.h"

static __always_inline void affinity_key(struct affinity_key *key, const struct packet *packet,
					 const struct service_version *version)
{
	__s32 bits = packet->family == 4 ? 96 + version->scheme.source_prefix_ipv4
					 : version->scheme.source_prefix_ipv6;
	__u32 words[4];

	load_address(words, packet->flow.source);
	for (int word = 0; word < 4; word++)
		words[word] = mask_word(words[word], bits - 32 * word);
	key->affinity_id = version->affinity_id;
	__builtin_memcpy(key->client, words, sizeof(key->client));
}

/* Whether the packet begins a flow, as far as its client's place is concerned: what is of a connection that nobody
 * remembers has most likely been there, and so has what an error is about. */
static __always_inline bool begins(const struct packet *packet)
{
	return packet->role != ROLE_ICMP_ERROR &&
	       (packet->flow.service.protocol != IPPROTO_TCP || packet->opens);
}

/* The id of the backend that the client has; 0: none that counts. */
static __noinline int affine(const struct packet *packet, const struct service_version *version,
			     __u64 now_ns)
{
	const struct destination *destination;
	struct affinity_key key;
	struct flow_entry *held;
	__u32 id;

	affinity_key(&key, packet, version);
	held = bpf_map_lookup_elem(&affinities, &key);
	if (!held || *(volatile __u64 *)&held->last_seen_ns + version->affinity_ms * 1000000ull < now_ns)
		return 0;
	id = held->destination;
	destination = bpf_map_lookup_elem(&destinations, &id);
	if (!is_given(destination) || destination->generation != held->generation ||
	    !may_have(version, destination->flags, begins(packet)))
		return 0;
	return id;
}
