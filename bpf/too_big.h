/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Tells a sender that its packet does not fit the way to the backend: ICMP "fragmentation needed"
 * (RFC 792, RFC 1191) or "packet too big" (RFC 4443, 3.2), made of the packet itself. Without it a
 * tunnel that is a little too narrow is a black hole: small requests work and uploads hang. Knows
 * headers, checksums and the pace at which errors may be sent; knows no service.
 */
#pragma once

#include "tunnel.h"

/* So much of the packet is quoted where it is there: with the headers less than the 576 bytes that
 * every host takes (RFC 1122, 3.3.2), and no more than bpf_csum_diff() sums at once with the eight
 * bytes of ICMP. Else the largest IPv4 header, or IPv6's, and eight bytes. */
enum { QUOTE_BYTES = 504, QUOTE_LEAST_BYTES = 68 };
enum { ANSWER_TTL = 64 };
/* Errors that may go out at once after a quiet time. */
enum { ICMP_BURST = 64 };

/* Errors go out one interval apart on average, a burst after a quiet time (the generic cell rate
 * algorithm, ITU-T I.371). 0: no limit. */
static __always_inline bool is_in_pace(void)
{
	__u32 only = 0;
	struct settings *setting = bpf_map_lookup_elem(&settings, &only);
	__u64 *next_ns = bpf_map_lookup_elem(&icmp_pace, &only);
	__u64 now_ns = bpf_ktime_get_ns(), interval_ns;

	if (!setting || !next_ns)
		return false;
	interval_ns = *(volatile __u64 *)&setting->icmp_interval_ns;
	if (interval_ns == 0)
		return true;
	if (*next_ns > now_ns + interval_ns * (ICMP_BURST - 1))
		return false;
	*next_ns = (*next_ns > now_ns ? *next_ns : now_ns) + interval_ns;
	return true;
}

/* Nobody is told about an ICMP error, a later fragment, or what went to a group of hosts (RFC 1122,
 * 3.2.2; RFC 4443, 2.4). Senders that allow fragmentation are told like the others, although RFC 1191
 * does not ask for it: nothing here can cut their packets, and hosts that hear of it cut smaller ones. */
static __always_inline bool may_be_told(struct xdp_md *ctx, const struct packet *packet)
{
	struct ethhdr *ethernet = (void *)(long)ctx->data;
	const void *ip = ip_header(ctx, packet);

	return packet->role <= ROLE_FIRST_FRAGMENT && packet->ip_length >= QUOTE_LEAST_BYTES &&
	       is_answerable(packet) && is_there(ctx, ethernet, sizeof(*ethernet)) &&
	       !(ethernet->h_dest[0] & 1) && is_there(ctx, ip, QUOTE_LEAST_BYTES);
}

/* The link-layer addresses of the packet, turned round. It lies `length` bytes further back now. */
static __always_inline bool turn_macs(struct xdp_md *ctx, __u32 length)
{
	half_word *to = (void *)(long)ctx->data;
	half_word *from = (void *)to + (length & ROOM_MASK);

	/* As it stands: see ip_header. */
	asm volatile("" : "+r"(from));
	if (!is_there(ctx, to, sizeof(struct ethhdr)) || !is_there(ctx, from, sizeof(struct ethhdr)))
		return false;
	for (int i = 0; i < 3; i++) {
		to[i] = from[i + 3];
		to[i + 3] = from[i];
	}
	return true;
}

/* Of the ICMP message, whose checksum field is zero. */
static __always_inline __u16 sum_message(struct xdp_md *ctx, void *icmp, bool is_long, __u32 seed)
{
	if (is_long) {
		if (!is_there(ctx, icmp, ICMP_HEADER_BYTES + QUOTE_BYTES))
			return 0;
		return fold_sum(bpf_csum_diff(NULL, 0, icmp, ICMP_HEADER_BYTES + QUOTE_BYTES, seed));
	}
	if (!is_there(ctx, icmp, ICMP_HEADER_BYTES + QUOTE_LEAST_BYTES))
		return 0;
	return fold_sum(bpf_csum_diff(NULL, 0, icmp, ICMP_HEADER_BYTES + QUOTE_LEAST_BYTES, seed));
}

/* In front of `length` bytes. An answer comes from whom the sender knows: where its packet went. */
static __always_inline void write_answer_header_ipv4(struct iphdr *ip, const struct packet *packet,
						     __u32 length, __u8 protocol)
{
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = 0;
	ip->tot_len = bpf_htons(sizeof(*ip) + length);
	ip->id = 0;
	ip->frag_off = bpf_htons(FRAGMENT_DONT);
	ip->ttl = ANSWER_TTL;
	ip->protocol = protocol;
	ip->check = 0;
	ip->saddr = ((const word *)packet->flow.service.address)[3];
	ip->daddr = ((const word *)packet->flow.source)[3];
	ip->check = sum_ipv4_header(ip);
}

static __always_inline void write_answer_header_ipv6(struct ipv6hdr *ip, const struct packet *packet,
						     __u32 length, __u8 protocol)
{
	*(word *)ip = bpf_htonl(6u << 28);
	ip->payload_len = bpf_htons(length);
	ip->nexthdr = protocol;
	ip->hop_limit = ANSWER_TTL;
	copy_address(&ip->saddr, packet->flow.service.address);
	copy_address(&ip->daddr, packet->flow.source);
}

/* Of an answer's pseudo-header (RFC 9293, 3.1; RFC 8200, 8.1). IPv4 addresses are summed as they are kept,
 * mapped into IPv6: the ones in front of them count as zero. */
static __always_inline __u32 sum_answer_pseudo_header(const struct packet *packet, __u32 length,
						      __u8 protocol)
{
	word pseudo[10];

	copy_address(pseudo, packet->flow.service.address);
	copy_address(pseudo + 4, packet->flow.source);
	pseudo[8] = bpf_htonl(length);
	pseudo[9] = bpf_htonl(protocol);
	return bpf_csum_diff(NULL, 0, pseudo, sizeof(pseudo), 0);
}

static __always_inline bool write_answer_ipv4(struct xdp_md *ctx, const struct packet *packet,
					      void *answer, bool is_long, __u32 mtu)
{
	struct iphdr *ip = answer;
	half_word *icmp = answer + sizeof(*ip);

	if (!is_there(ctx, answer, sizeof(*ip) + ICMP_HEADER_BYTES))
		return false;
	write_answer_header_ipv4(ip, packet, ICMP_HEADER_BYTES + (is_long ? QUOTE_BYTES : QUOTE_LEAST_BYTES),
				 IPPROTO_ICMP);
	icmp[0] = bpf_htons(ICMP_UNREACHABLE << 8 | ICMP_FRAGMENTATION_NEEDED);
	icmp[1] = 0;
	icmp[2] = 0;
	icmp[3] = bpf_htons(mtu);
	icmp[1] = sum_message(ctx, icmp, is_long, 0);
	return true;
}

static __always_inline bool write_answer_ipv6(struct xdp_md *ctx, const struct packet *packet,
					      void *answer, bool is_long, __u32 mtu)
{
	__u32 length = ICMP_HEADER_BYTES + (is_long ? QUOTE_BYTES : QUOTE_LEAST_BYTES);
	struct ipv6hdr *ip = answer;
	half_word *icmp = answer + sizeof(*ip);

	if (!is_there(ctx, answer, sizeof(*ip) + ICMP_HEADER_BYTES))
		return false;
	write_answer_header_ipv6(ip, packet, length, IPPROTO_ICMPV6);
	icmp[0] = bpf_htons(ICMPV6_TOO_BIG << 8);
	icmp[1] = 0;
	*(word *)(icmp + 2) = bpf_htonl(mtu);
	icmp[1] = sum_message(ctx, icmp, is_long,
			      sum_answer_pseudo_header(packet, length, IPPROTO_ICMPV6));
	return true;
}

/* Makes the answer out of the packet, as it came: what is too much goes at its end, and two headers
 * come in front. `mtu` is what would have fitted. The verdict: told, or dropped without a word. */
static __noinline int tell_too_big(struct xdp_md *ctx, const struct packet *packet, __u32 mtu)
{
	void *ip = ip_header(ctx, packet);
	bool is_long = packet->ip_length >= QUOTE_BYTES && is_there(ctx, ip, QUOTE_BYTES);
	__u32 kept = ip_offset(packet) + (is_long ? QUOTE_BYTES : QUOTE_LEAST_BYTES);
	__u32 room = ICMP_HEADER_BYTES +
		     (packet->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
	void *answer;
	bool written;

	if (!may_be_told(ctx, packet) || !is_in_pace())
		return DROP_TOO_BIG;
	if (bpf_xdp_adjust_tail(ctx, (int)kept - (int)packet->frame_length))
		return DROP_TOO_BIG;
	answer = make_room(ctx, packet, room,
			   packet->family == 4 ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6));
	if (!answer || !turn_macs(ctx, room))
		return DROP_TOO_BIG;
	written = packet->family == 4 ? write_answer_ipv4(ctx, packet, answer, is_long, mtu)
				      : write_answer_ipv6(ctx, packet, answer, is_long, mtu);
	return written ? TX_TOO_BIG : DROP_TOO_BIG;
}
