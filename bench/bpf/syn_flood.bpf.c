/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * A flood of connections that nobody opens: each run writes one SYN from an address and a port drawn at
 * random out of 198.19.0.0/16 (RFC 2544) and sends it. Test runs with live frames call it
 * (bench/syn_flood.ts); the sum of TCP stays wrong, so that backends drop it and answer nobody. For
 * namespaces without a route out.
 */
#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/ip.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>

enum { FLOOD_FRAME_BYTES = 64, FLOOD_NETWORK = 0xc6130000 };

/* What bench/syn_flood.ts writes: Ethernet, IPv4 and TCP, the rest zeros. Frames come back from where they
 * were sent with what happened to them, so each is written whole. */
struct flood_plan {
	__u64 frame[FLOOD_FRAME_BYTES / 8];
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__type(key, __u32);
	__type(value, struct flood_plan);
	__uint(max_entries, 1);
} flood_plans SEC(".maps");

static __always_inline __u16 header_sum(const __u16 *words)
{
	__u32 sum = 0;

	for (int i = 0; i < (int)sizeof(struct iphdr) / 2; i++)
		sum += words[i];
	sum = (sum & 0xffff) + (sum >> 16);
	sum = (sum & 0xffff) + (sum >> 16);
	return ~sum;
}

SEC("xdp")
int send_syn(struct xdp_md *ctx)
{
	void *data = (void *)(long)ctx->data;
	__u32 only = 0, drawn = bpf_get_prandom_u32();
	struct flood_plan *plan = bpf_map_lookup_elem(&flood_plans, &only);
	struct iphdr *ip = data + sizeof(struct ethhdr);
	__u16 *port = (void *)(ip + 1);

	if (!plan || data + FLOOD_FRAME_BYTES > (void *)(long)ctx->data_end)
		return XDP_ABORTED;
	for (int i = 0; i < FLOOD_FRAME_BYTES / 8; i++)
		((__u64 *)data)[i] = plan->frame[i];
	ip->saddr = bpf_htonl(FLOOD_NETWORK | (drawn & 0xffff));
	*port = drawn >> 16;
	ip->check = 0;
	ip->check = header_sum((const __u16 *)ip);
	return XDP_TX;
}

char LICENSE[] SEC("license") = "GPL";
