/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What a frame is: Ethernet, up to two VLAN tags, IPv4 or IPv6, and the first bytes of TCP, UDP or
 * ICMP. Knows wire formats; knows no service and no map, so it can only pass a packet or describe
 * it. parsePacket() in src/model/packet.ts is its twin and is written from the same RFCs, not from
 * this code.
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
enum { EXTENSIONS_MAX = 5, IPV4_MAPPED = 0xffff };
enum { FRAGMENT_MORE = 0x2000, FRAGMENT_OFFSET = 0x1fff, FRAGMENT_DONT = 0x4000 };
enum { TCP_HEADER_BYTES = 20, UDP_HEADER_BYTES = 8, ICMP_HEADER_BYTES = 8 };
enum { TCP_FLAGS_OFFSET = 13, TCP_SYN = 0x02, TCP_ACK = 0x10 };
enum { ECHO_REQUEST = 8, ECHO_REPLY = 0, ECHO_REQUEST_V6 = 128, ECHO_REPLY_V6 = 129 };

/* The first two have ports; nothing else can be for a service. */
enum packet_kind {
	KIND_FLOW = 0,
	KIND_FIRST_FRAGMENT,
	KIND_ECHO_REQUEST,
	KIND_ICMP,
	KIND_LATER_FRAGMENT,
	KIND_OTHER_PROTOCOL,
	KIND_TRUNCATED,
};

struct packet {
	struct flow_key flow __attribute__((aligned(8)));
	__u32 frame_length;     /* with everything the driver gave us, padding included */
	__u32 tag_bytes;        /* 0, 4 or 8 of VLAN tags */
	__u32 ip_length;        /* as the IP header says, itself included, padding not */
	__u8 kind;              /* enum packet_kind */
	__u8 family;            /* 4 or 6 */
	__u8 ttl;
	__u8 opens;             /* a TCP SYN without ACK */
	__u8 plain;             /* to one host's MAC; no IPv4 options, IPv6 extensions or fragments */
	__u8 fragment;          /* the first one: its ports are there, its length is not the datagram's */
};

/* Where the IP header begins. The mask changes nothing: it is a bound for the verifier, which
 * forgets. */
static __always_inline __u32 ip_offset(const struct packet *packet)
{
	return sizeof(struct ethhdr) + (packet->tag_bytes & TAG_BYTES_MASK);
}

static __always_inline bool is_vlan(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

static __always_inline void copy_address(void *to, const void *from)
{
	((word *)to)[0] = ((const word *)from)[0];
	((word *)to)[1] = ((const word *)from)[1];
	((word *)to)[2] = ((const word *)from)[2];
	((word *)to)[3] = ((const word *)from)[3];
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

/* Whether an answer to this source would reach one host, and another than this one (RFC 1122,
 * 3.2.2; RFC 4443, 2.4). */
static __always_inline bool is_answerable(const struct packet *packet)
{
	const word *source = (const word *)packet->flow.source;
	const word *here = (const word *)packet->flow.service.address;
	__u8 first = packet->flow.source[packet->family == 4 ? 12 : 0];

	if (source[0] == here[0] && source[1] == here[1] && source[2] == here[2] && source[3] == here[3])
		return false;
	if (packet->family == 4)
		return first != 0 && first != 127 && first < 224;
	if (!(source[0] | source[1] | source[2]) && bpf_ntohl(source[3]) <= 1)
		return false;
	return first != 0xff;
}

/* TCP, UDP or ICMP: its kind, its ports, whether it opens a connection. It begins at `here`. */
static __always_inline void parse_transport(struct packet *packet, void *data, void *end,
					    __u32 here, __u8 protocol)
{
	__u32 stop = ip_offset(packet) + packet->ip_length;
	__u8 icmp = packet->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	__u8 echo = packet->family == 4 ? ECHO_REQUEST : ECHO_REQUEST_V6;
	__u32 needed = protocol == IPPROTO_TCP ? TCP_HEADER_BYTES : UDP_HEADER_BYTES;
	__u8 *bytes = data + here;

	packet->flow.service.protocol = protocol;
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != icmp) {
		packet->kind = KIND_OTHER_PROTOCOL;
		return;
	}
	packet->kind = KIND_TRUNCATED;
	if (here + needed > stop || bytes + UDP_HEADER_BYTES > (__u8 *)end)
		return;
	if (protocol == icmp) {
		packet->kind = KIND_ICMP;
		if (packet->plain && bytes[0] == echo && bytes[1] == 0 && is_answerable(packet))
			packet->kind = KIND_ECHO_REQUEST;
		return;
	}
	if (protocol == IPPROTO_TCP) {
		if (bytes + TCP_HEADER_BYTES > (__u8 *)end)
			return;
		packet->opens = (bytes[TCP_FLAGS_OFFSET] & (TCP_SYN | TCP_ACK)) == TCP_SYN;
	}
	packet->flow.source_port = ((__be16 *)bytes)[0];
	packet->flow.service.port = ((__be16 *)bytes)[1];
	packet->kind = packet->fragment ? KIND_FIRST_FRAGMENT : KIND_FLOW;
}

static __always_inline enum verdict parse_ipv4(struct packet *packet, void *data, void *end)
{
	struct iphdr *ip = data + ip_offset(packet);
	__u32 header_length;
	__u16 fragment;

	if ((void *)(ip + 1) > end)
		return PASS_MALFORMED;
	header_length = ip->ihl * 4;
	packet->ip_length = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header_length < sizeof(*ip) || (void *)ip + header_length > end ||
	    packet->ip_length < header_length ||
	    ip_offset(packet) + packet->ip_length > packet->frame_length)
		return PASS_MALFORMED;

	packet->family = 4;
	packet->ttl = ip->ttl;
	map_ipv4(packet->flow.source, ip->saddr);
	map_ipv4(packet->flow.service.address, ip->daddr);
	fragment = bpf_ntohs(ip->frag_off);
	if (fragment & FRAGMENT_OFFSET) {
		packet->kind = KIND_LATER_FRAGMENT;
		return VERDICT_CONTINUE;
	}
	packet->fragment = (fragment & FRAGMENT_MORE) != 0;
	if (packet->fragment || header_length != sizeof(*ip))
		packet->plain = false;
	parse_transport(packet, data, end, ip_offset(packet) + header_length, ip->protocol);
	return VERDICT_CONTINUE;
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
};

/* Walks over IPv6 extension headers to the transport header and returns its protocol; `here` moves
 * along. Sets the kind where there is no way on: a packet with segments left is for somebody else
 * in the end. */
static __noinline int skip_extensions(struct packet *packet, void *data, void *end, __u32 *here,
				      __u8 next)
{
	__u32 stop = ip_offset(packet) + packet->ip_length;
	__u32 at = *here;

	for (int i = 0; i < EXTENSIONS_MAX; i++) {
		struct extension *extension = data + at;
		__u32 length = 8;

		if (next != IPPROTO_HOPOPTS && next != IPPROTO_DSTOPTS && next != IPPROTO_ROUTING &&
		    next != IPPROTO_FRAGMENT)
			break;
		packet->plain = false;
		packet->kind = KIND_TRUNCATED;
		if (at + length > stop || (void *)extension + length > end)
			return -1;
		if (next == IPPROTO_FRAGMENT) {
			__u16 word = bpf_ntohs(((struct fragment_extension *)extension)->offset_and_more);

			packet->kind = KIND_LATER_FRAGMENT;
			if (word >> 3)
				return -1;
			packet->fragment |= word & 1;
		} else {
			packet->kind = KIND_OTHER_PROTOCOL;
			if (next == IPPROTO_ROUTING && extension->segments_left)
				return -1;
			length += extension->length * 8;
		}
		next = extension->next;
		at += length;
	}
	*here = at;
	return next;
}

static __always_inline enum verdict parse_ipv6(struct packet *packet, void *data, void *end)
{
	struct ipv6hdr *ip = data + ip_offset(packet);
	__u32 here = ip_offset(packet) + sizeof(*ip);
	int protocol;

	if ((void *)(ip + 1) > end)
		return PASS_MALFORMED;
	packet->ip_length = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	if (ip->version != 6 || ip_offset(packet) + packet->ip_length > packet->frame_length)
		return PASS_MALFORMED;
	/* Mapped addresses are how IPv4 is written in our keys: from the wire they would be a disguise. */
	if (is_ipv4_mapped(&ip->saddr) || is_ipv4_mapped(&ip->daddr))
		return PASS_MALFORMED;

	packet->family = 6;
	packet->ttl = ip->hop_limit;
	copy_address(packet->flow.source, &ip->saddr);
	copy_address(packet->flow.service.address, &ip->daddr);
	protocol = ip->nexthdr;
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_ICMPV6)
		protocol = skip_extensions(packet, data, end, &here, protocol);
	if (protocol >= 0)
		parse_transport(packet, data, end, here, protocol);
	return VERDICT_CONTINUE;
}

static __always_inline enum verdict parse_packet(struct xdp_md *ctx, struct packet *packet)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = data;
	__be16 *protocol = data + offsetof(struct ethhdr, h_proto);

	/* The linear part may be less than the frame: this program takes frames in fragments. */
	packet->frame_length = bpf_xdp_get_buff_len(ctx);
	if ((void *)(ethernet + 1) > end)
		return PASS_NOT_IP;
	packet->plain = !(ethernet->h_dest[0] & 1);
	packet->opens = false;
	packet->fragment = false;
	packet->flow.service.pad = 0;
	packet->flow.service.port = 0;
	packet->flow.source_port = 0;
	packet->flow.pad[0] = 0;
	packet->flow.pad[1] = 0;

	packet->tag_bytes = 0;
	for (int tag = 0; tag < VLAN_TAGS_MAX && is_vlan(*protocol); tag++) {
		packet->tag_bytes += VLAN_TAG_BYTES;
		protocol += VLAN_TAG_BYTES / sizeof(*protocol);
		if ((void *)(protocol + 1) > end)
			return PASS_NOT_IP;
	}
	if (*protocol == bpf_htons(ETH_P_IP))
		return parse_ipv4(packet, data, end);
	if (*protocol == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(packet, data, end);
	return PASS_NOT_IP;
}
