/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Of the flows that nobody has to remember, some are looked at, to tell how many there are. Whether a
 * flow is one of them is in its hash, so that all others pay for a comparison. src/model/flow_sample.ts
 * is its twin; nobody follows what is noted here.
 */
#pragma once

#include "choice.h"
#include "forward.h"

/* Notes that a flow is under way. A SYN alone is no flow yet, so a flood of them does not count, and an
 * error is none of its flow's packets. Translated flows are all known. afterSampling(). */
static __noinline int note_flow(const struct packet *packet, const struct choice *choice)
{
	const struct destination *destination = choice->destination;
	struct flow_entry *held;
	struct flow_entry entry;
	__u64 now_ns;

	if (!destination || packet->opens || packet->role == ROLE_ICMP_ERROR || is_nat(destination))
		return 0;
	now_ns = bpf_ktime_get_coarse_ns();
	held = bpf_map_lookup_elem(&sampled_flows, &packet->flow);
	if (held && held->destination == choice->id && held->generation == destination->generation) {
		if (held->last_seen_ns + TOUCH_INTERVAL_NS < now_ns)
			held->last_seen_ns = now_ns;
		return 0;
	}
	entry.last_seen_ns = now_ns;
	entry.generation = destination->generation;
	entry.destination = choice->id;
	entry.other = 0;
	return bpf_map_update_elem(&sampled_flows, &packet->flow, &entry, BPF_ANY);
}

/* What was sent on its way. */
static __always_inline void sample(const struct packet *packet, const struct choice *choice)
{
	if (feature_sample && choice->tracking != TRACKING_FULL &&
	    !(choice->flow_hash & (SAMPLE_ONE_IN - 1)))
		note_flow(packet, choice);
}
