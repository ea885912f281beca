/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Puts the packet back before each run of a repeated test run, which the kernel does not, changes
 * its client where flows are to differ, and goes on to pointsman or to the baseline by a tail call.
 * Both ways cost the same up to there, so the difference is pointsman's. Compiled by bench/packet.ts
 * alone; knows no service.
 */
#include "pointsman.bpf.c"

enum { BENCH_FRAME_BYTES = 80, PLAN_OFFSET_MASK = 63 };
enum { NEXT_POINTSMAN = 0, NEXT_BASELINE = 1 };

/* bench/packet.ts writes this by hand: keep both alike. */
struct bench_plan {
	__u32 next_flow;        /* counts packets */
	__u32 flow_mask;        /* bits of the count that tell flows apart; 0: one flow */
	__u32 source_offset;    /* of the last four bytes of the client's address */
	__u32 port_offset;      /* of the client's port */
	__u32 clients_first;    /* the next packet is the next client's, and not from its next port */
	__u32 reserved;
	__u64 frame[BENCH_FRAME_BYTES / 8];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__type(key, __u32);
	__type(value, struct bench_plan);
	__uint(max_entries, 1);
} bench_plans SEC(".maps");

int swap_and_transmit(struct xdp_md *ctx);

struct {
	__uint(type, BPF_MAP_TYPE_PROG_ARRAY);
	__uint(max_entries, 2);
	__uint(key_size, sizeof(__u32));
	__array(values, int(void *));
} bench_next SEC(".maps") = {
	.values = {
		[NEXT_POINTSMAN] = (void *)&pointsman,
		[NEXT_BASELINE] = (void *)&swap_and_transmit,
	},
};

/* The least that anything which answers can do. */
SEC("xdp.frags")
int swap_and_transmit(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;

	if (data + sizeof(struct ethhdr) > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	swap_macs(data);
	return XDP_TX;
}

/* Sums are left as they are: pointsman carries them and never asks whether they are right. */
static __always_inline bool restore(struct xdp_md *ctx)
{
	__u32 only = 0;
	struct bench_plan *plan = bpf_map_lookup_elem(&bench_plans, &only);
	int grown = (int)bpf_xdp_get_buff_len(ctx) - BENCH_FRAME_BYTES;
	double_word *to;
	half_word *port;
	word *source;
	void *data, *end;
	__u32 flow;

	if (!plan || (grown && bpf_xdp_adjust_head(ctx, grown)))
		return false;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + BENCH_FRAME_BYTES > end)
		return false;
	to = data;
	for (int i = 0; i < BENCH_FRAME_BYTES / 8; i++)
		to[i] = plan->frame[i];
	flow = plan->next_flow++ & plan->flow_mask;
	if (plan->clients_first)
		flow = flow << 16 | flow >> 16;
	source = data + (plan->source_offset & PLAN_OFFSET_MASK);
	port = data + (plan->port_offset & PLAN_OFFSET_MASK);
	if ((void *)(source + 1) > end || (void *)(port + 1) > end)
		return false;
	*port ^= bpf_htons(flow & 0xffff);
	*source ^= bpf_htonl(flow >> 16);
	return true;
}

SEC("xdp.frags")
int measure_pointsman(struct xdp_md *ctx)
{
	if (restore(ctx))
		bpf_tail_call(ctx, &bench_next, NEXT_POINTSMAN);
	return XDP_ABORTED;
}

SEC("xdp.frags")
int measure_baseline(struct xdp_md *ctx)
{
	if (restore(ctx))
		bpf_tail_call(ctx, &bench_next, NEXT_BASELINE);
	return XDP_ABORTED;
}
