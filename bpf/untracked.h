/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Whose the flows are that nobody remembers, while slots or the regions of clients are changing. Knows versions of
 * services; knows no flow. untrackedOwner() in src/model/flow_decide.ts is its twin.
 */
#pragma once

#include "regions.h"
#include "slot.h"

/* The flow at hand, for a function that cannot be given a pointer to it. */
struct untracked_flow {
	struct flow_key key __attribute__((aligned(8)));
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct untracked_flow);
	__uint(max_entries, 1);
} untracked_flows SEC(".maps");

static __always_inline bool has_changing_slots(const struct service_version *version, __u64 now_ns)
{
	return version->predecessor.ring_size && now_ns < version->changing_until_ns;
}

static __always_inline __u32 changing_owner(const struct flow_key *flow,
					    const struct service_version *version, __u32 hash, __u64 now_ns)
{
	__u32 id;

	if (!has_changing_slots(version, now_ns))
		return 0;
	if (version->flags & SERVICE_REHASHED)
		hash = hash_of_flow(flow, &version->predecessor);
	id = word_in_ring(&version->predecessor, hash) & SLOT_BACKEND_MASK;
	return id || version->flags & SERVICE_REHASHED ? id | SLOT_EXCEPTION : 0;
}

/* Of the flow in `untracked_flows`, by the version of its service in this element. Not static: see regional_element. */
__noinline int untracked_word(__u32 element, __u32 hash, __u64 now_ns)
{
	const struct service_version *version = bpf_map_lookup_elem(&service_versions, &element);
	const struct service_version *former;
	const struct untracked_flow *flow;
	__u32 only = 0, word;

	flow = bpf_map_lookup_elem(&untracked_flows, &only);
	if (!flow || !version)
		return 0;
	former = feature_regions ? former_version(&flow->key, version, now_ns) : NULL;
	if (former) {
		version = former;
		hash = hash_of_flow(&flow->key, &version->scheme);
	}
	word = changing_owner(&flow->key, version, hash, now_ns);
	if (!former)
		return word;
	return (word ? word : word_in_ring(&version->scheme, hash)) | SLOT_EXCEPTION;
}

/* Whose the flows of the packet's slot are that nobody remembers, of those from before the window, with SLOT_EXCEPTION; 0:
 * the slot is not changing. For a client that came to another region all slots are. */
static __always_inline __u32 untracked_owner(const struct packet *packet, const struct service_version *version,
					     __u32 service, __u32 hash, __u64 now_ns)
{
	struct untracked_flow *flow;
	__u32 only = 0;

	if (!has_changing_slots(version, now_ns) && !(feature_regions && version->asked))
		return 0;
	flow = bpf_map_lookup_elem(&untracked_flows, &only);
	if (!flow)
		return 0;
	copy_flow_key(&flow->key, &packet->flow);
	return untracked_word(element_of(service, version), hash, now_ns);
}
