/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Counts a packet, under exactly one verdict, and says to the kernel what that verdict means. Knows
 * the counters; must never change what was decided.
 */
#pragma once

#include "flow_sample.h"
#include "forward.h"

_Static_assert((int)PASS_LOCAL + 1 == (int)TX_FORWARDED &&
	       (int)TX_RESET + 1 == (int)DROP_DENIED,
	       "the action is read from the block a verdict stands in");

static __always_inline void count_verdict(enum verdict verdict, __u32 bytes)
{
	__u32 index = verdict;
	struct verdict_count *count = bpf_map_lookup_elem(&verdict_counts, &index);

	if (!count)
		return;
	count->packets += 1;
	count->bytes += bytes;
}

static __always_inline void count_traffic(struct traffic_count *count, __u32 bytes, bool new_flow)
{
	if (!count)
		return;
	count->packets += 1;
	count->bytes += bytes;
	count->flows += new_flow;
}

/* Without a flow table, an opened connection is the only new flow that shows. A packet that is
 * translated has one. */
static __always_inline void count_forwarded(const struct packet *packet,
					    const struct choice *choice, bool remembered)
{
	bool new_flow = choice->tracking == TRACKING_FULL ? remembered : packet->opens;

	if (feature_nat && is_nat(choice->destination))
		new_flow = choice->effect == EFFECT_CLAIM;

	sample(packet, choice);
	count_traffic(bpf_map_lookup_elem(&service_traffic, &choice->service), packet->frame_length,
		      new_flow);
	count_traffic(bpf_map_lookup_elem(&destination_traffic, &choice->id), packet->frame_length,
		      new_flow);
}

/* What reaches its backend and is no plain packet of a flow on its way. An error is traffic of the
 * service and of the backend, but nothing is settled for it; a first fragment goes ahead of the
 * others; what stays on this host is settled like what leaves. */
static __noinline int settle_special(int verdict, const struct packet *packet,
				     const struct choice *choice)
{
	if (packet->role == ROLE_ICMP_ERROR) {
		count_forwarded(packet, choice, false);
		return verdict == PASS_LOCAL ? PASS_LOCAL : TX_ICMP_ERROR;
	}
	if (packet->role == ROLE_FIRST_FRAGMENT)
		remember_ports(packet);
	count_forwarded(packet, choice, settle(packet, choice));
	return verdict;
}

static __always_inline int finish(enum verdict verdict, const struct packet *packet,
				  const struct choice *choice)
{
	count_verdict(verdict, packet->frame_length);
	if (verdict < TX_FORWARDED)
		return XDP_PASS;
	if (verdict >= DROP_DENIED)
		return XDP_DROP;
	return choice->action;
}
