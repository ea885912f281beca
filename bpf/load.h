/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * How many flows destinations have, as packets tell: one more when a flow is remembered, one less when its client
 * has closed it or it is remembered elsewhere. What no packet tells (a flow that falls silent, an entry that the
 * kernel pushes out) the supervisor finds by walking the tables (load_memory.ts).
 */
#pragma once

#include "service_version.h"

/* `by`: 1 or -1. Shared by all CPUs. */
static __noinline int count_load(__u32 service, __u32 id, __s32 by)
{
	const struct service_version *version = active_version(service);
	__s64 *load = bpf_map_lookup_elem(&destination_flows, &id);
	__s64 *total;
	__u32 at;

	if (!version || !load)
		return 0;
	at = version->flows_at;
	total = bpf_map_lookup_elem(&service_flows, &at);
	if (!total)
		return 0;
	__sync_fetch_and_add(load, (__s64)by);
	__sync_fetch_and_add(total, (__s64)by);
	return 0;
}

static __always_inline __u64 at_least_none(const __s64 *flows)
{
	__s64 count = flows ? *(const volatile __s64 *)flows : 0;

	return count < 0 ? 0 : count;
}

static __always_inline __u64 load_of(__u32 id)
{
	return at_least_none(bpf_map_lookup_elem(&destination_flows, &id));
}
