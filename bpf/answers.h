/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * How long backends take to answer what begins a translated flow: a SYN, or a first datagram. Knows what an entry of
 * `nat_flows` says of when it began; must never change one. answerOf() in src/model/nat_decide.ts is its twin.
 */
#pragma once

#include "abi_answers.h"
#include "maps.h"
#include "packet.h"

/* Who answers later has let its client wait for so long at least, and one such answer does not outweigh thousands. */
#define ANSWER_WAIT_MAX_NS 3000000000ull

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);             /* id of the destination */
	__type(value, struct answer_count);
	__uint(max_entries, 4096);
} answer_counts SEC(".maps");

/* Nothing touches the entry of the answers between the packet that begins a flow and the first answer, whose time it
 * has, therefore. A connection is answered by a SYN-ACK: a reset, or what one that was there before goes on with, says
 * nothing of how long it takes. Nor is there anything to say of whoever has the id now, if it is not the flow's. */
static __always_inline void count_answer(const struct packet *packet, const struct nat_flow *held)
{
	__u64 began_ns = held->last_seen_ns, now_ns, waited_ns = 0;
	const struct destination *destination;
	struct answer_count *count;
	__u32 id = held->destination;

	if (packet->flow.service.protocol == IPPROTO_TCP && !packet->answers)
		return;
	destination = bpf_map_lookup_elem(&destinations, &id);
	count = bpf_map_lookup_elem(&answer_counts, &id);
	if (!destination || !count || destination->generation != held->generation)
		return;
	/* A tick of the coarse clock is longer than most backends take. */
	now_ns = bpf_ktime_get_ns();
	if (now_ns > began_ns)
		waited_ns = now_ns - began_ns;
	count->answers += 1;
	count->waited_ns += waited_ns < ANSWER_WAIT_MAX_NS ? waited_ns : ANSWER_WAIT_MAX_NS;
}
