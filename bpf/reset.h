/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Tells who sends on a translated connection whose backend was taken out: a TCP reset (RFC 9293, 3.5.2), made of
 * the packet itself. Knows headers and sums, and how a flow is marked as reset.
 */
#pragma once

#include "forward.h"

/* In a TCP header. */
enum { TCP_ACKNOWLEDGEMENT_OFFSET = 8 };
enum { TCP_RESET_WORD = (TCP_HEADER_BYTES / 4) << 12 | TCP_RST };

/* Whoever has seen an acknowledgement expects what comes next at that number, and takes a reset nowhere else
 * (RFC 5961, 3.2). */
static __always_inline void write_reset(void *to, const struct packet *packet, word sequence, __u32 pseudo)
{
	half_word *tcp = to;

	tcp[0] = packet->flow.service.port;
	tcp[1] = packet->flow.source_port;
	*(word *)(tcp + 2) = sequence;
	*(word *)(tcp + 4) = 0;
	tcp[6] = bpf_htons(TCP_RESET_WORD);
	tcp[7] = 0;
	tcp[8] = 0;
	tcp[9] = 0;
	tcp[8] = fold_sum(bpf_csum_diff(NULL, 0, to, TCP_HEADER_BYTES, pseudo));
}

/* From the first reset on, the flow ends like any other that was reset: who speaks until then is told too. */
static __always_inline void note_reset(struct nat_flow *held)
{
	if (held->flags & NAT_RST)
		return;
	held->flags |= NAT_RST;
	held->last_seen_ns = bpf_ktime_get_coarse_ns();
}

/* What is behind the headers goes, and options and extension headers with it. */
static __noinline int answer_reset(struct xdp_md *ctx, const struct packet *packet, struct choice *choice)
{
	__u32 header = packet->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	__u32 kept = ip_offset(packet) + header + TCP_HEADER_BYTES, pseudo;
	const void *received = bytes_at(ctx, packet->transport, TCP_HEADER_BYTES);
	void *data, *ip;
	word sequence;

	if (!received)
		return DROP_NO_ROOM;
	sequence = *(const word *)(received + TCP_ACKNOWLEDGEMENT_OFFSET);
	if (bpf_xdp_adjust_tail(ctx, (int)kept - (int)packet->frame_length))
		return DROP_NO_ROOM;
	pseudo = sum_answer_pseudo_header(packet, TCP_HEADER_BYTES, IPPROTO_TCP);
	data = (void *)(long)ctx->data;
	ip = ip_header(ctx, packet);
	if (!is_there(ctx, data, sizeof(struct ethhdr)) ||
	    !is_there(ctx, ip, sizeof(struct iphdr) + TCP_HEADER_BYTES))
		return DROP_NO_ROOM;
	swap_macs(data);
	if (packet->family == 4) {
		write_answer_header_ipv4(ip, packet, TCP_HEADER_BYTES, IPPROTO_TCP);
		write_reset(ip + sizeof(struct iphdr), packet, sequence, pseudo);
	} else {
		if (!is_there(ctx, ip, sizeof(struct ipv6hdr) + TCP_HEADER_BYTES))
			return DROP_NO_ROOM;
		write_answer_header_ipv6(ip, packet, TCP_HEADER_BYTES, IPPROTO_TCP);
		write_reset(ip + sizeof(struct ipv6hdr), packet, sequence, pseudo);
	}
	if (choice->nat)
		note_reset(choice->nat);
	choice->action = answer_by(ctx);
	return TX_RESET;
}
