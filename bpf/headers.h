/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Wire formats: what is where in a header, addresses as our maps have them, the walk over IPv6
 * extension headers, and the headers that an ICMP error quotes. Knows no packet as a whole, no
 * service and no map.
 */
#pragma once

#include <linux/bpf.h>
#include <linux/if_ether.h>
#include <linux/in.h>
#include <linux/ip.h>
#include <linux/ipv6.h>
#include <stdbool.h>
#include <stddef.h>
#include <bpf/bpf_endian.h>
#include <bpf/bpf_helpers.h>
#include "abi.h"

/* Bytes of an address or a link-layer header taken as words: clang would copy them one by one. */
typedef __u32 __attribute__((may_alias)) word;
typedef __u64 __attribute__((may_alias)) double_word;

enum { VLAN_TAGS_MAX = 2, VLAN_TAG_BYTES = 4, TAG_BYTES_MASK = 12 };
enum { FRAME_LENGTH_BITS = 31 };
enum { EXTENSIONS_MAX = 5, IPV4_MAPPED = 0xffff };
/* No offset that parsing can reach is larger, within two walks over extension headers. The mask
 * changes nothing: it is a bound for the verifier. */
enum { OFFSET_MASK = 0x7fff };
enum { FRAGMENT_MORE_SHIFT = 13 };
enum { FRAGMENT_MORE = 0x2000, FRAGMENT_OFFSET = 0x1fff, FRAGMENT_DONT = 0x4000 };
enum { FRAGMENT_OFFSET_V6 = 0xfff8, FRAGMENT_BITS_V6 = 0xfff9 };
enum { TCP_HEADER_BYTES = 20, UDP_HEADER_BYTES = 8, ICMP_HEADER_BYTES = 8 };
enum { TCP_FLAGS_OFFSET = 13, TCP_FIN = 0x01, TCP_SYN = 0x02, TCP_RST = 0x04, TCP_ACK = 0x10 };
enum { TCP_LENGTH_OFFSET = 12 };
enum { TCP_SUM_OFFSET = 16, UDP_SUM_OFFSET = 6, ICMP_SUM_OFFSET = 2 };
enum { ECHO_REQUEST = 8, ECHO_REPLY = 0, ECHO_REQUEST_V6 = 128, ECHO_REPLY_V6 = 129 };
enum { ICMP_UNREACHABLE = 3, ICMP_TIME_EXCEEDED = 11, ICMP_PARAMETER_PROBLEM = 12 };
enum { ICMPV6_UNREACHABLE = 1, ICMPV6_PARAMETER_PROBLEM = 4 };
/* Of a quoted transport header; RFC 792 and RFC 1122 (3.2.2) promise no more. */
enum { QUOTED_BYTES = 8 };

/* The first one has ports; nothing else can be for a service. */
enum packet_kind {
	KIND_FLOW = 0,
	KIND_ECHO_REQUEST,
	KIND_ICMP,
	KIND_LATER_FRAGMENT,
	KIND_OTHER_PROTOCOL,
	KIND_TRUNCATED,
};

/* What a packet with ports is to its flow. An ICMP error that quotes a packet from its own
 * destination has the quoted flow, the way the client sends it. */
enum packet_role { ROLE_PACKET = 0, ROLE_FIRST_FRAGMENT, ROLE_LATER_FRAGMENT, ROLE_ICMP_ERROR };

static __always_inline void copy_address(void *to, const void *from)
{
	((word *)to)[0] = ((const word *)from)[0];
	((word *)to)[1] = ((const word *)from)[1];
	((word *)to)[2] = ((const word *)from)[2];
	((word *)to)[3] = ((const word *)from)[3];
}

static __always_inline void copy_flow_key(struct flow_key *to, const struct flow_key *from)
{
	double_word *target = (double_word *)to;
	const double_word *source = (const double_word *)from;

	for (int i = 0; i < 5; i++)
		target[i] = source[i];
}

static __always_inline void map_ipv4(void *to, __be32 address)
{
	((word *)to)[0] = 0;
	((word *)to)[1] = 0;
	((word *)to)[2] = bpf_htonl(IPV4_MAPPED);
	((word *)to)[3] = address;
}

static __always_inline bool is_ipv4_mapped(const void *address)
{
	const word *words = address;

	return !(words[0] | words[1] | (words[2] ^ bpf_htonl(IPV4_MAPPED)));
}

static __always_inline bool is_same_address(const void *a, const void *b)
{
	const word *one = a, *other = b;

	return !((one[0] ^ other[0]) | (one[1] ^ other[1]) | (one[2] ^ other[2]) |
		 (one[3] ^ other[3]));
}

struct extension {
	__u8 next;
	__u8 length;            /* in units of 8 bytes, the first not counted; a segment count follows */
	__u8 type;
	__u8 segments_left;     /* of a routing header */
};

struct fragment_extension {
	__u8 next;
	__u8 reserved;
	__be16 offset_and_more; /* 13 bits, 2 reserved, 1 */
	__be32 identification;
};

/* A walk over the extension headers of IPv6, and what it finds. */
struct walk {
	__u32 at;               /* from the beginning of the frame */
	__u32 stop;             /* nothing from here on is the packet's */
	__u8 next;              /* what is at `at`; in the end, the transport protocol */
	__u8 kind;              /* enum packet_kind, where there is no way on; else KIND_FLOW */
	__u8 role;              /* enum packet_role; of a later fragment: ROLE_FIRST_FRAGMENT too */
	__u8 pad;
	__be32 identification;  /* of a fragment */
};

/* A packet with segments left is for somebody else in the end. Not static: the verifier then checks
 * it once and by itself, and not again for each state of each caller. */
__noinline int skip_extensions(struct xdp_md *ctx, struct walk *walk)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 at;
	__u8 next;

	if (!walk)
		return -1;
	at = walk->at & OFFSET_MASK;
	next = walk->next;
	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		struct extension *extension = data + at;
		__u32 length = 8;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS && next != IPPROTO_ROUTING &&
		    next != IPPROTO_FRAGMENT)
			break;
		walk->kind = KIND_TRUNCATED;
		if (at + length > walk->stop || (void *)extension + length > end)
			return -1;
		if (next == IPPROTO_FRAGMENT) {
			struct fragment_extension *fragment = (void *)extension;
			__u16 word = bpf_ntohs(fragment->offset_and_more);

			/* Neither offset nor more to come: a whole packet (RFC 6946). */
			if (word & FRAGMENT_BITS_V6) {
				walk->role = ROLE_FIRST_FRAGMENT;
				walk->identification = fragment->identification;
			}
			walk->kind = KIND_LATER_FRAGMENT;
			if (word & FRAGMENT_OFFSET_V6)
				return -1;
		} else {
			walk->kind = KIND_OTHER_PROTOCOL;
			if (next == IPPROTO_ROUTING && extension->segments_left)
				return -1;
			length += extension->length * 8;
		}
		next = extension->next;
		at += length;
	}
	walk->at = at;
	walk->next = next;
	walk->kind = KIND_FLOW;
	return 0;
}

/* Unreachable, time exceeded, parameter problem (RFC 792); and packet too big (RFC 4443, 3). */
static __always_inline bool is_error(__u8 family, __u8 type)
{
	if (family == 4)
		return type == ICMP_UNREACHABLE || type == ICMP_TIME_EXCEEDED ||
		       type == ICMP_PARAMETER_PROBLEM;
	return type >= ICMPV6_UNREACHABLE && type <= ICMPV6_PARAMETER_PROBLEM;
}

/* What may stand behind the outer header of a tunnel that has no ports. */
static __always_inline bool is_tunnel_protocol(__u8 protocol)
{
	return protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6 || protocol == IPPROTO_GRE;
}

/* What an ICMP error quotes. */
struct quote {
	__u8 source[16];
	__u8 destination[16];
	struct walk walk;       /* to its transport header */
	__be16 source_port;
	__be16 destination_port;
	__u8 family;
	__u8 pad[3];
};

static __always_inline int read_quoted_ipv4(struct quote *quote, struct iphdr *ip)
{
	if (ip->version != 4 || ip->ihl < 5 || ip->frag_off & bpf_htons(FRAGMENT_OFFSET))
		return -1;
	map_ipv4(quote->source, ip->saddr);
	map_ipv4(quote->destination, ip->daddr);
	quote->walk.next = ip->protocol;
	quote->walk.at += ip->ihl * 4;
	return 0;
}

static __always_inline int read_quoted_ipv6(struct xdp_md *ctx, struct quote *quote,
					    struct ipv6hdr *ip)
{
	if (ip->version != 6 || is_ipv4_mapped(&ip->daddr))
		return -1;
	copy_address(quote->source, &ip->saddr);
	copy_address(quote->destination, &ip->daddr);
	quote->walk.next = ip->nexthdr;
	quote->walk.at += sizeof(*ip);
	return skip_extensions(ctx, &quote->walk);
}

/* Reads addresses, protocol and ports; -1: it has none that we can see. The quote may be cut
 * anywhere behind the ports, and the length in it is that of the packet as it was; extensions (RFC
 * 4884) come behind at least 128 bytes of it. Not static, as above. */
__noinline int read_quote(struct xdp_md *ctx, struct quote *quote)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 at, needed;
	__be16 *ports;
	void *header;

	if (!quote)
		return -1;
	at = quote->walk.at & OFFSET_MASK;
	needed = quote->family == 4 ? sizeof(struct iphdr) : sizeof(struct ipv6hdr);
	header = data + at;
	if (at + needed > quote->walk.stop || header + sizeof(struct iphdr) > end)
		return -1;
	if (quote->family == 4) {
		if (read_quoted_ipv4(quote, header))
			return -1;
	} else if (header + sizeof(struct ipv6hdr) > end || read_quoted_ipv6(ctx, quote, header)) {
		return -1;
	}
	at = quote->walk.at & OFFSET_MASK;
	ports = data + at;
	/* As it stands: made a second time behind the check, it would be unchecked. */
	asm volatile("" : "+r"(ports));
	if (at + QUOTED_BYTES > quote->walk.stop || (void *)ports + QUOTED_BYTES > end)
		return -1;
	quote->source_port = ports[0];
	quote->destination_port = ports[1];
	return 0;
}
