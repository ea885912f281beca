/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Which region a client is in, and what a service is for the clients of a region. Knows the maps of regions, and of a
 * packet its source; knows no ring. serviceFor() and serviceBefore() in src/model/service_lookup.ts are its twins.
 */
#pragma once

#include "maps.h"
#include "packet.h"
#include "service_version.h"

/* Blocks from the root to a leaf, at most: 16^6 starts. */
enum { REGION_LEVELS_MAX = 6 };

const volatile enum region_fanout anchor_region_fanout;
const volatile enum region anchor_region;

/* Each table is as large as its prefixes need. */
struct region_table {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE | BPF_F_INNER_MAP);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct region_block));
	__uint(max_entries, 1);
};
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__type(key, __u32);             /* service_version.regions - 1 */
	__uint(max_entries, 64);
	__array(values, struct region_table);
} region_tables SEC(".maps");

/* What an element held may be read for one grace period more. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct region_key);
	__type(value, struct region_service);
	__uint(max_entries, 1024);
} region_services SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, __u32);             /* index of the service */
	__type(value, struct region_name);
	__uint(max_entries, 1024);
} region_names SEC(".maps");

/* Which of the block's starts is the last one that is not above the address. */
static __noinline __u32 place_in(const struct region_block *block, __u64 high, __u64 low)
{
	__u32 at = 0;

#pragma unroll
	for (__u32 step = REGION_FANOUT / 2; step; step /= 2) {
		const struct region_start *start = &block->starts[(at | step) & (REGION_FANOUT - 1)];

		if (start->high < high || (start->high == high && start->low <= low))
			at |= step;
	}
	return at < block->last ? at : block->last;
}

/* The region that an address is in, by the table of this number + 1. */
static __always_inline __u32 region_of(__u64 high, __u64 low, __u32 regions)
{
	__u32 table = regions - 1, at = 0;
	void *blocks = bpf_map_lookup_elem(&region_tables, &table);

	if (!blocks)
		return REGION_NOWHERE;
#pragma unroll
	for (__u32 level = 0; level < REGION_LEVELS_MAX; level++) {
		const struct region_block *block = bpf_map_lookup_elem(blocks, &at);
		__u32 place;

		if (!block)
			return REGION_NOWHERE;
		place = place_in(block, high, low) & (REGION_FANOUT - 1);
		if (!block->first_child)
			return block->regions[place];
		at = block->first_child + place;
	}
	return REGION_NOWHERE;
}

/* Element of `service_versions`: that of no service. */
enum { NO_ELEMENT = 0x7fffffff };

/* What the program goes on with where no region says: the low half where the client is in none, the high half where the
 * service of its region is gone. */
static __always_inline __u64 otherwise(__u32 nowhere, __u32 gone)
{
	return nowhere | (__u64)gone << 32;
}

/* Element of `service_versions` that a client of a service with this table is measured against. Not static: the verifier
 * then checks it once and by itself, and not again for each state of its callers; and no branch of theirs depends on it. */
__noinline int regional_element(__u64 high, __u64 low, __u32 regions, __u32 service, __u64 otherwise)
{
	struct region_key key = { .regions = regions, .service = service };
	const struct region_service *found;
	const volatile __u32 *active;
	__u32 index;

	key.region = regions ? region_of(high, low, regions) : REGION_NOWHERE;
	if (key.region == REGION_NOWHERE)
		return otherwise & NO_ELEMENT;
	found = bpf_map_lookup_elem(&region_services, &key);
	if (!found)
		return otherwise >> 32 & NO_ELEMENT;
	index = found->service;
	if (found->version)
		return (index * 2 + found->version - 1) & NO_ELEMENT;
	active = bpf_map_lookup_elem(&service_active, &index);
	return (active ? index * 2 + (*active & 1) : otherwise >> 32) & NO_ELEMENT;
}

/* The client's address in two halves, in the order of numbers. */
static __always_inline __u64 high_of(const struct flow_key *flow)
{
	const word *source = (const word *)flow->source;

	return (__u64)bpf_ntohl(source[0]) << 32 | bpf_ntohl(source[1]);
}

static __always_inline __u64 low_of(const struct flow_key *flow)
{
	const word *source = (const word *)flow->source;

	return (__u64)bpf_ntohl(source[2]) << 32 | bpf_ntohl(source[3]);
}

/* The version of the service that a flow's client was of when the window of its regions opened, if that is another one
 * than this and is there still; NULL: nothing changes for it, or no longer. */
static __always_inline const struct service_version *former_version(const struct flow_key *flow,
								    const struct service_version *version,
								    __u64 now_ns)
{
	const struct service_version *asked, *former;
	__u32 service = version->asked - 1, element;

	if (!version->asked)
		return NULL;
	asked = active_version(service);
	if (!asked || now_ns >= asked->regions_until_ns)
		return NULL;
	element = regional_element(high_of(flow), low_of(flow), asked->regions_before, service,
				   otherwise(element_of(service, asked), NO_ELEMENT));
	former = bpf_map_lookup_elem(&service_versions, &element);
	return former == version ? NULL : former;
}
