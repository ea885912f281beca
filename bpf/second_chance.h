/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The backend's part of the second chance: whether this host has the connection that a tunnel packet
 * belongs to, and if not, the way to the next backend that the balancer named (alternates.h). Knows
 * sockets and routes of this host; knows no balancer and no service. What it is not sure of is
 * delivered here: somebody has to answer, and be it with a reset.
 */
#pragma once

#include "alternates.h"
#include "checksum.h"
#include "packet.h"

/* Off: what alternates a packet names is not looked at. As compiled, everything is on (maps.h). */
const volatile bool decap_second_chance = true;
/* The interface whose routes count: a bond, where the program runs on its ports. 0: whichever it came by. */
const volatile __u32 decap_ifindex = 0;
/* As transmit_by_redirect in maps.h: a veth's peer takes nothing else. */
const volatile bool decap_transmits_by_redirect = false;

enum { FAMILY_IPV4 = 2, FAMILY_IPV6 = 10 };
/* No more than an Ethernet header with two tags, IPv6, UDP and the longest GUE header. */
enum { OUTER_MASK = 255 };

struct tunnel {
	__u8 source[16] __attribute__((aligned(8)));
	__u8 local[16];         /* outer destination */
	__u8 destination[16];   /* inner */
	__u32 offset;           /* where the outer IP header begins */
	__u32 outer_length;     /* of everything outside: IP and what may stand behind it */
	__u32 room;             /* for the inner packet, as the outer headers say */
	__u32 total;            /* of the outer packet, as the IP header says */
	__u8 protocol;          /* of what comes next; in the end IPPROTO_IPIP or IPPROTO_IPV6 */
	__u8 ecn;               /* of the outer header */
	__u8 field;             /* where GUE's private data or the GRE key begins, from the beginning of the frame */
	__u8 field_words;       /* 0: there is none */
	__u8 is_key;
	__u8 pad[3];
};

/* A connection that is asked for. */
struct inquiry {
	struct bpf_sock_tuple tuple;
	__u32 transport;        /* where the TCP header begins; 0: it is quoted */
	__u8 opens;
	__u8 pad[3];
};

/* Where the next alternate stands in the frame is written to `at`. DECAP_TX_ALTERNATE: there is one. */
static __always_inline enum decap_verdict next_alternate(const struct tunnel *tunnel, void *data,
							 void *end, __u32 *at)
{
	bool ipv4 = is_ipv4_mapped(tunnel->local);
	__u32 size = ipv4 ? 4 : 16;
	__u8 *field = data + tunnel->field, count, next;

	asm volatile("" : "+r"(field));
	if (field + ALTERNATES_HEADER_BYTES > (__u8 *)end)
		return DECAP_PASS_STRIPPED;
	if (tunnel->is_key) {
		*at = tunnel->field;
		if (!ipv4)
			return DECAP_PASS_STRIPPED;
		return *(word *)field ? DECAP_TX_ALTERNATE : DECAP_PASS_LAST;
	}
	count = field[ALTERNATES_COUNT_AT];
	next = field[ALTERNATES_NEXT_AT];
	/* Others may have private data of their own. */
	if (field[ALTERNATES_KIND_AT] != ALTERNATES_KIND || field[ALTERNATES_ZERO_AT] ||
	    count > ALTERNATES_MAX || next > count || tunnel->field_words != 1 + count * (size / 4))
		return DECAP_PASS_STRIPPED;
	*at = tunnel->field + ALTERNATES_HEADER_BYTES + next * size;
	return next == count ? DECAP_PASS_LAST : DECAP_TX_ALTERNATE;
}

/* Fragments have no ports, or leave the others without: all of them stay where they arrive. */
static __always_inline bool find_transport(struct xdp_md *ctx, const struct tunnel *tunnel,
					   void *inner, struct walk *walk)
{
	if (tunnel->protocol == IPPROTO_IPIP) {
		struct iphdr *ip = inner;

		walk->next = ip->protocol;
		walk->stop = walk->at + bpf_ntohs(ip->tot_len);
		walk->at += ip->ihl * 4;
		return !(ip->frag_off & bpf_htons(FRAGMENT_MORE | FRAGMENT_OFFSET));
	} else {
		struct ipv6hdr *ip = inner;

		walk->next = ip->nexthdr;
		walk->stop = walk->at + sizeof(*ip) + bpf_ntohs(ip->payload_len);
		walk->at += sizeof(*ip);
		return skip_extensions(ctx, walk) == 0 && walk->role != ROLE_FIRST_FRAGMENT;
	}
}

static __always_inline void fill_tuple(struct inquiry *inquiry, bool ipv4, const void *client,
				       __be16 client_port, const void *here, __be16 port)
{
	if (ipv4) {
		inquiry->tuple.ipv4.saddr = ((const word *)client)[3];
		inquiry->tuple.ipv4.daddr = ((const word *)here)[3];
		inquiry->tuple.ipv4.sport = client_port;
		inquiry->tuple.ipv4.dport = port;
	} else {
		copy_address(inquiry->tuple.ipv6.saddr, client);
		copy_address(inquiry->tuple.ipv6.daddr, here);
		inquiry->tuple.ipv6.sport = client_port;
		inquiry->tuple.ipv6.dport = port;
	}
}

/* An ICMP error is about the connection that it quotes, a packet of this backend's. */
static __always_inline bool inquire_quoted(struct xdp_md *ctx, const struct tunnel *tunnel,
					   const struct walk *walk, struct inquiry *inquiry)
{
	bool ipv4 = tunnel->protocol == IPPROTO_IPIP;
	struct quote quote = {
		.walk = { .at = walk->at + ICMP_HEADER_BYTES, .stop = walk->stop },
		.family = ipv4 ? 4 : 6,
	};

	if (read_quote(ctx, &quote) || quote.walk.next != IPPROTO_TCP ||
	    !is_same_address(quote.source, tunnel->destination))
		return false;
	fill_tuple(inquiry, ipv4, quote.destination, quote.destination_port, quote.source,
		   quote.source_port);
	return true;
}

/* Which connection the packet is about. Datagrams are about none: a server's socket takes them from
 * everybody, and says nothing of who had a flow before. */
static __always_inline bool inquire(struct xdp_md *ctx, const struct tunnel *tunnel,
				    struct inquiry *inquiry)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	bool ipv4 = tunnel->protocol == IPPROTO_IPIP;
	struct walk walk = { .at = (tunnel->offset + tunnel->outer_length) & OUTER_MASK };
	void *inner = data + walk.at;
	__u8 client[16] __attribute__((aligned(8)));
	__u8 *transport;

	asm volatile("" : "+r"(inner));
	if (inner + (ipv4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr)) > end)
		return false;
	if (ipv4)
		map_ipv4(client, ((struct iphdr *)inner)->saddr);
	else
		copy_address(client, &((struct ipv6hdr *)inner)->saddr);
	if (!find_transport(ctx, tunnel, inner, &walk))
		return false;
	walk.at &= OFFSET_MASK;
	transport = data + walk.at;
	asm volatile("" : "+r"(transport));
	if (transport + ICMP_HEADER_BYTES > (__u8 *)end || walk.at + ICMP_HEADER_BYTES > walk.stop)
		return false;
	if (walk.next == (ipv4 ? IPPROTO_ICMP : IPPROTO_ICMPV6))
		return is_error(ipv4 ? 4 : 6, transport[0]) && inquire_quoted(ctx, tunnel, &walk, inquiry);
	if (walk.next != IPPROTO_TCP || transport + TCP_HEADER_BYTES > (__u8 *)end ||
	    walk.at + TCP_HEADER_BYTES > walk.stop)
		return false;
	fill_tuple(inquiry, ipv4, client, ((half_word *)transport)[0], tunnel->destination,
		   ((half_word *)transport)[1]);
	inquiry->transport = walk.at;
	inquiry->opens = (transport[TCP_FLAGS_OFFSET] & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	return true;
}

/* Whether the listener gave out the number that this packet acknowledges. */
static __always_inline bool is_cookie(struct xdp_md *ctx, const struct tunnel *tunnel,
				      const struct inquiry *inquiry, struct bpf_sock *listener)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	void *ip = data + ((tunnel->offset + tunnel->outer_length) & OUTER_MASK);
	void *tcp = data + (inquiry->transport & OFFSET_MASK);

	asm volatile("" : "+r"(ip));
	asm volatile("" : "+r"(tcp));
	if (ip + sizeof(struct iphdr) > end || tcp + TCP_HEADER_BYTES > end)
		return false;
	if (tunnel->protocol == IPPROTO_IPIP)
		return bpf_tcp_check_syncookie(listener, ip, sizeof(struct iphdr), tcp,
					       TCP_HEADER_BYTES) == 0;
	if (ip + sizeof(struct ipv6hdr) > end)
		return false;
	return bpf_tcp_check_syncookie(listener, ip, sizeof(struct ipv6hdr), tcp, TCP_HEADER_BYTES) == 0;
}

/* Whether a socket of this host's is the packet's: one of its connection, be it one that is asked for or
 * waits for its end; or a listener, if it is to open one, or ends a handshake of which nothing is kept. */
static __noinline int is_owned(struct xdp_md *ctx, const struct tunnel *tunnel,
			       struct inquiry *inquiry)
{
	__u32 size = tunnel->protocol == IPPROTO_IPIP ? sizeof(inquiry->tuple.ipv4)
						      : sizeof(inquiry->tuple.ipv6);
	struct bpf_sock *found =
		bpf_skc_lookup_tcp(ctx, &inquiry->tuple, size, (__u64)BPF_F_CURRENT_NETNS, 0);
	bool owned;

	if (!found)
		return false;
	owned = found->state != BPF_TCP_LISTEN ||
		(inquiry->transport && (inquiry->opens || is_cookie(ctx, tunnel, inquiry, found)));
	bpf_sk_release(found);
	return owned;
}

static __always_inline void lead_ipv4(struct iphdr *ip, __be32 to, bool hops)
{
	half_word *words = (half_word *)ip;
	half_word *new = (half_word *)&to;
	__u16 sum = ip->check, before = words[4];

	ip->ttl -= hops;
	sum = replace_in_sum(sum, before, words[4]);
	sum = replace_in_sum(sum, words[8], new[0]);
	ip->check = replace_in_sum(sum, words[9], new[1]);
	ip->daddr = to;
}

/* Sends the outer packet on to the alternate at `at`, which is taken off the list. By `way`, or without one
 * to wherever the kernel forwards it, which counts the hop itself. */
static __always_inline bool lead(struct xdp_md *ctx, const struct tunnel *tunnel, __u32 at,
				 const struct bpf_fib_lookup *way)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	void *alternate = data + (at & OUTER_MASK), *ip = data + sizeof(struct ethhdr);
	__u8 *field = data + tunnel->field;

	asm volatile("" : "+r"(alternate));
	asm volatile("" : "+r"(field));
	if (field + ALTERNATES_HEADER_BYTES > (__u8 *)end || alternate + sizeof(word) > end ||
	    ip + sizeof(struct iphdr) > end)
		return false;
	if (is_ipv4_mapped(tunnel->local)) {
		lead_ipv4(ip, *(word *)alternate, way);
	} else {
		struct ipv6hdr *ipv6 = ip;

		if (alternate + 16 > end || (void *)(ipv6 + 1) > end)
			return false;
		copy_address(&ipv6->daddr, alternate);
		if (way)
			ipv6->hop_limit -= 1;
	}
	if (tunnel->is_key)
		*(word *)field = 0;
	else
		field[ALTERNATES_NEXT_AT] += 1;
	if (!way)
		return true;
	for (int i = 0; i < 3; i++) {
		((half_word *)data)[i] = ((const half_word *)way->dmac)[i];
		((half_word *)data)[i + 3] = ((const half_word *)way->smac)[i];
	}
	return true;
}

/* Looks for the way to the alternate at `at`; the answer is an enum of bpf_fib_lookup(), or negative. */
static __always_inline long find_way(struct xdp_md *ctx, const struct tunnel *tunnel, __u32 at,
				     struct bpf_fib_lookup *way)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	void *alternate = data + (at & OUTER_MASK);
	struct iphdr *ip = data + sizeof(struct ethhdr);
	bool ipv4 = is_ipv4_mapped(tunnel->local);

	asm volatile("" : "+r"(alternate));
	if (alternate + sizeof(word) > end || (void *)(ip + 1) > end)
		return -1;
	way->ifindex = decap_ifindex ? decap_ifindex : ctx->ingress_ifindex;
	way->tot_len = tunnel->total;
	if (ipv4) {
		way->family = FAMILY_IPV4;
		way->ipv4_src = ((const word *)tunnel->source)[3];
		way->ipv4_dst = *(word *)alternate;
	} else {
		if (alternate + 16 > end)
			return -1;
		way->family = FAMILY_IPV6;
		copy_address(way->ipv6_src, tunnel->source);
		copy_address(way->ipv6_dst, alternate);
	}
	/* The hop is counted, so there must be one left: byte 8 of IPv4, byte 7 of IPv6. */
	if (((__u8 *)ip)[ipv4 ? 8 : 7] <= 1)
		return -1;
	return bpf_fib_lookup(ctx, way, sizeof(*way), 0);
}

/* To the next alternate. A neighbour that is not known yet is found by the kernel, which forwards the
 * packet meanwhile: the look-up has said that it would. What carries a tag is another interface's. */
static __noinline int pass_on(struct xdp_md *ctx, const struct tunnel *tunnel, __u32 at, int *action)
{
	struct bpf_fib_lookup way = {};
	__u32 ifindex = decap_ifindex ? decap_ifindex : ctx->ingress_ifindex;
	long answer;

	if (tunnel->offset != sizeof(struct ethhdr))
		return DECAP_PASS_NO_WAY;
	answer = find_way(ctx, tunnel, at, &way);
	if (answer == BPF_FIB_LKUP_RET_NO_NEIGH)
		return lead(ctx, tunnel, at, NULL) ? DECAP_PASS_ALTERNATE : DECAP_PASS_NO_WAY;
	if (answer != BPF_FIB_LKUP_RET_SUCCESS || !lead(ctx, tunnel, at, &way))
		return DECAP_PASS_NO_WAY;
	*action = way.ifindex == ifindex && !decap_transmits_by_redirect
			  ? XDP_TX
			  : (int)bpf_redirect(way.ifindex, 0);
	return DECAP_TX_ALTERNATE;
}

/* Who gets a packet that names alternates: DECAP_TX_ALTERNATE and DECAP_PASS_ALTERNATE say that it is
 * on its way to the next one, anything else that it is to be delivered here. */
static __always_inline enum decap_verdict choose_owner(struct xdp_md *ctx, const struct tunnel *tunnel,
						       int *action)
{
	struct inquiry inquiry = {};
	enum decap_verdict verdict;
	__u32 at = 0;

	verdict = next_alternate(tunnel, (void *)(long)ctx->data, (void *)(long)ctx->data_end, &at);
	if (verdict != DECAP_TX_ALTERNATE)
		return verdict;
	if (!inquire(ctx, tunnel, &inquiry))
		return DECAP_PASS_STRIPPED;
	return is_owned(ctx, tunnel, &inquiry) ? DECAP_PASS_OWNED : pass_on(ctx, tunnel, at, action);
}
