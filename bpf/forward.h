/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Sends a packet on its way: to the next hop as it is (l2), in an outer header (ipip), or back
 * where it came from (echo). Knows headers and checksums; knows no flow and no ring. Every frame
 * that leaves here has right checksums if it came with right ones, and wrong ones if not: sums are
 * carried, not made.
 */
#pragma once

#include "checksum.h"
#include "decide.h"

enum { OUTER_TTL = 64, ECHO_TTL = 64, IP_LENGTH_MAX = 65535, CLASS_SHIFT = 20 };

static __always_inline void set_ttl(struct iphdr *ip, __u8 ttl)
{
	half_word *ttl_and_protocol = (half_word *)&ip->ttl;
	__u16 before = *ttl_and_protocol;

	ip->ttl = ttl;
	ip->check = replace_in_sum(ip->check, before, *ttl_and_protocol);
}

/* Asks for the frame to leave by this interface. On veth, and for another interface, that is a
 * redirect. */
static __always_inline int leave_by(struct xdp_md *ctx, __u32 ifindex)
{
	if (!transmit_by_redirect && ifindex == ctx->ingress_ifindex)
		return XDP_TX;
	return bpf_redirect_map(&devices, ifindex, 0);
}

/* Where the IP header begins. Whoever looks there asks `is_there` first: the verifier has forgotten
 * what parsing found out. */
static __always_inline void *ip_header(struct xdp_md *ctx, const struct packet *packet)
{
	void *shifted = (void *)(long)ctx->data + (packet->tag_bytes & TAG_BYTES_MASK);

	/* As it stands: a constant added to it would hide the bound that the verifier must see. */
	asm volatile("" : "+r"(shifted));
	return shifted + sizeof(struct ethhdr);
}

static __always_inline bool is_there(struct xdp_md *ctx, const void *bytes, __u32 length)
{
	return bytes + length <= (void *)(long)ctx->data_end;
}

static __always_inline bool count_hop(struct xdp_md *ctx, const struct packet *packet)
{
	if (packet->family == 4) {
		struct iphdr *ip = ip_header(ctx, packet);

		if (!is_there(ctx, ip, sizeof(*ip)))
			return false;
		set_ttl(ip, packet->ttl - 1);
	} else {
		struct ipv6hdr *ip = ip_header(ctx, packet);

		if (!is_there(ctx, ip, sizeof(*ip)))
			return false;
		ip->hop_limit = packet->ttl - 1;
	}
	return true;
}

static __always_inline bool write_macs(struct xdp_md *ctx, const struct next_hop *hop)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if (data + sizeof(struct ethhdr) > end)
		return false;
	*(double_word *)data = *(const double_word *)hop;
	*(word *)(data + 8) = *(const word *)((const void *)hop + 8);
	return true;
}

static __always_inline bool is_ipv4_outside(const struct destination *destination)
{
	return is_ipv4_mapped(destination->address);
}

/* What an outer header takes over from the inner one (RFC 2003, 3.1; RFC 2473, 6.4; RFC 6040, 4). */
struct inner {
	__u8 family;
	__u8 class;             /* DSCP and ECN */
	__be16 id;
	__be16 dont_fragment;
	__u32 length;
};

static __always_inline bool look_inside(struct xdp_md *ctx, const struct packet *packet,
					struct inner *inner)
{
	inner->family = packet->family;
	inner->length = packet->ip_length;
	if (packet->family == 4) {
		struct iphdr *ip = ip_header(ctx, packet);

		if (!is_there(ctx, ip, sizeof(*ip)))
			return false;
		inner->class = ip->tos;
		inner->dont_fragment = ip->frag_off & bpf_htons(FRAGMENT_DONT);
		/* Without DF somebody may fragment the outer packet, and only an id keeps the pieces together. */
		inner->id = inner->dont_fragment ? 0 : ip->id;
	} else {
		struct ipv6hdr *ip = ip_header(ctx, packet);

		if (!is_there(ctx, ip, sizeof(*ip)))
			return false;
		inner->class = bpf_ntohl(*(word *)ip) >> CLASS_SHIFT;
		inner->dont_fragment = bpf_htons(FRAGMENT_DONT);
		inner->id = 0;
	}
	return true;
}

/* What a flow's hash adds to the last word of the outer source. Never the first address of the
 * prefix nor its last: those are not one host's. */
static __always_inline __be32 tunnel_host(const struct choice *choice)
{
	__be32 mask = feature_tunnel_variation ? choice->tunnel_source_mask : 0;
	__be32 host = bpf_htonl(choice->flow_hash) & mask;

	if (!mask)
		return 0;
	if (host == 0)
		return bpf_htonl(1);
	return host == mask ? host ^ bpf_htonl(1) : host;
}

static __always_inline void write_outer_ipv4(struct iphdr *ip,
					     const struct destination *destination, __be32 host,
					     const struct inner *inner)
{
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = inner->class;
	ip->tot_len = bpf_htons(sizeof(*ip) + inner->length);
	ip->id = inner->id;
	ip->frag_off = inner->dont_fragment;
	ip->ttl = OUTER_TTL;
	ip->protocol = inner->family == 4 ? IPPROTO_IPIP : IPPROTO_IPV6;
	ip->check = 0;
	ip->saddr = ((const word *)destination->tunnel_source)[3] | host;
	ip->daddr = ((const word *)destination->address)[3];
	ip->check = sum_ipv4_header(ip);
}

static __always_inline void write_outer_ipv6(struct ipv6hdr *ip,
					     const struct destination *destination, __be32 host,
					     const struct inner *inner)
{
	*(word *)ip = bpf_htonl(6u << 28 | (__u32)inner->class << CLASS_SHIFT);
	ip->payload_len = bpf_htons(inner->length);
	ip->nexthdr = inner->family == 4 ? IPPROTO_IPIP : IPPROTO_IPV6;
	ip->hop_limit = OUTER_TTL;
	copy_address(&ip->saddr, destination->tunnel_source);
	((word *)&ip->saddr)[3] |= host;
	copy_address(&ip->daddr, destination->address);
}

/* Makes room in front and moves the link-layer header there; its addresses are written later. The
 * VLAN tags go along, as they are. Returns the place of the outer header, or NULL. */
static __always_inline void *make_room(struct xdp_md *ctx, const struct packet *packet,
				       __u32 length, __be16 protocol)
{
	void *data, *outer;

	if (bpf_xdp_adjust_head(ctx, -(int)length))
		return NULL;
	data = (void *)(long)ctx->data;
	outer = ip_header(ctx, packet);
	if (!is_there(ctx, data, length + sizeof(struct ethhdr) + VLAN_TAGS_MAX * VLAN_TAG_BYTES) ||
	    !is_there(ctx, outer, length))
		return NULL;
	if (packet->tag_bytes) {
		*(word *)(data + 12) = *(word *)(data + length + 12);
		*(word *)(data + 16) = *(word *)(data + length + 16);
	}
	*(__be16 *)(outer - sizeof(__be16)) = protocol;
	return outer;
}

static __always_inline enum verdict encapsulate(struct xdp_md *ctx, const struct packet *packet,
						const struct choice *choice, bool ipv4_outside)
{
	const struct destination *destination = choice->destination;
	__be32 host = tunnel_host(choice);
	struct inner inner;
	void *outer;

	if (!look_inside(ctx, packet, &inner))
		return DROP_NO_ROOM;
	if (ipv4_outside) {
		outer = make_room(ctx, packet, sizeof(struct iphdr), bpf_htons(ETH_P_IP));
		if (!outer)
			return DROP_NO_ROOM;
		write_outer_ipv4(outer, destination, host, &inner);
	} else {
		outer = make_room(ctx, packet, sizeof(struct ipv6hdr), bpf_htons(ETH_P_IPV6));
		if (!outer)
			return DROP_NO_ROOM;
		write_outer_ipv6(outer, destination, host, &inner);
	}
	return VERDICT_CONTINUE;
}

/* Nothing is written to the frame before it is sure to leave. */
static __always_inline enum verdict forward(struct xdp_md *ctx, const struct packet *packet,
					    struct choice *choice)
{
	const struct destination *destination = choice->destination;
	bool tunnel = feature_ipip && destination->forwarding == FORWARDING_IPIP;
	bool ipv4_outside = tunnel && is_ipv4_outside(destination);
	__u32 active = *(volatile __u32 *)&destination->next_hop_active & 1;
	const struct next_hop *hop = &destination->next_hops[active];
	__u32 length = packet->ip_length;

	if (!tunnel && !(feature_l2 && destination->forwarding == FORWARDING_L2))
		return DROP_NO_BACKEND;
	if (!(hop->flags & NEXT_HOP_RESOLVED))
		return DROP_NO_NEIGHBOUR;
	choice->action = leave_by(ctx, hop->ifindex);
	if (choice->action != XDP_TX && choice->action != XDP_REDIRECT)
		return DROP_NO_NEIGHBOUR;

	if (tunnel)
		length += ipv4_outside ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	if (hop->mtu && length > hop->mtu)
		return DROP_TOO_BIG;
	if (tunnel && length > IP_LENGTH_MAX + (ipv4_outside ? 0 : sizeof(struct ipv6hdr)))
		return DROP_NO_ROOM;
	if (!count_hop(ctx, packet))
		return DROP_NO_ROOM;
	if (tunnel && encapsulate(ctx, packet, choice, ipv4_outside) != VERDICT_CONTINUE)
		return DROP_NO_ROOM;
	if (!write_macs(ctx, hop))
		return DROP_NO_ROOM;
	return TX_FORWARDED;
}

static __always_inline void swap_words(void *a, void *b)
{
	word kept = *(word *)a;

	*(word *)a = *(word *)b;
	*(word *)b = kept;
}

static __always_inline void swap_macs(void *data)
{
	half_word *half = data, kept;

	for (int i = 0; i < 3; i++) {
		kept = half[i];
		half[i] = half[i + 3];
		half[i + 3] = kept;
	}
}

/* The type goes from request to reply; code is 0 in both. */
static __always_inline void turn_echo(void *icmp, __u8 reply)
{
	half_word *type_and_code = icmp, *sum = icmp + 2, before = *type_and_code;

	*(__u8 *)icmp = reply;
	*sum = replace_in_sum(*sum, before, *type_and_code);
}

static __always_inline void turn_ipv4_echo(struct iphdr *ip)
{
	swap_words(&ip->saddr, &ip->daddr);
	set_ttl(ip, ECHO_TTL);
	turn_echo(ip + 1, ECHO_REPLY);
}

static __always_inline void turn_ipv6_echo(struct ipv6hdr *ip)
{
	for (int i = 0; i < 4; i++)
		swap_words((word *)&ip->saddr + i, (word *)&ip->daddr + i);
	ip->hop_limit = ECHO_TTL;
	turn_echo(ip + 1, ECHO_REPLY_V6);
}

/* Turns an echo request (RFC 792; RFC 4443, 4.1) into its reply, where it lies. Swapped addresses
 * leave the sums as they are; the type and, in IPv4, the time to live change them. */
static __noinline int answer_echo(struct xdp_md *ctx, const struct packet *packet, int *action)
{
	void *data = (void *)(long)ctx->data;
	void *ip = ip_header(ctx, packet);

	if (!is_there(ctx, data, sizeof(struct ethhdr)))
		return PASS_TRUNCATED;
	if (packet->family == 4) {
		if (!is_there(ctx, ip, sizeof(struct iphdr) + ICMP_HEADER_BYTES))
			return PASS_TRUNCATED;
		turn_ipv4_echo(ip);
	} else {
		if (!is_there(ctx, ip, sizeof(struct ipv6hdr) + ICMP_HEADER_BYTES))
			return PASS_TRUNCATED;
		turn_ipv6_echo(ip);
	}
	swap_macs(data);
	*action = leave_by(ctx, ctx->ingress_ifindex);
	if (*action != XDP_REDIRECT)
		*action = XDP_TX;
	return TX_ECHO_REPLY;
}
