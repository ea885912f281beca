/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The outer header of a tunnel: IPv4 or IPv6, then nothing (ipip), a GRE header, or UDP with or
 * without a GUE header, perhaps the names of other backends (alternates.h), then the packet as it was.
 * Knows the frame and what a destination says of
 * its tunnel; knows no next hop and no verdict.
 */
#pragma once

#include "checksum.h"
#include "decide.h"

enum { OUTER_TTL = 64, IP_LENGTH_MAX = 65535, CLASS_SHIFT = 20 };
enum { GRE_HEADER_BYTES = 4, GUE_HEADER_BYTES = 4, ROOM_MASK = 127 };
enum { GUE_LENGTH_SHIFT = 24, FIELD_MASK = 127 };
/* What write_names() writes. */
enum names_form { NAMES_IPV4 = 1, NAMES_KEY = 2 };
/* From where one CPU begins to give identifications to where the next one does: 2^16 by the golden
 * ratio, which keeps any number of them as far apart as can be. */
enum { IDENTIFICATION_STRIDE = 40503 };
/* The dynamic ports (RFC 6335, 6), which GUE asks for in the outer source port. */
enum { GUE_SOURCE_PORT = 0xc000, GUE_SOURCE_PORT_MASK = 0x3fff };

static __always_inline bool is_tunnel(const struct destination *destination)
{
	return (feature_ipip && destination->forwarding == FORWARDING_IPIP) ||
	       (feature_gue && destination->forwarding == FORWARDING_GUE) ||
	       (feature_gre && destination->forwarding == FORWARDING_GRE);
}

static __always_inline bool is_ipv4_outside(const struct destination *destination)
{
	return is_ipv4_mapped(destination->address);
}

/* Bytes between the outer IP header and the packet inside. */
static __always_inline __u32 shim_bytes(const struct destination *destination)
{
	if (feature_gue && destination->forwarding == FORWARDING_GUE)
		return UDP_HEADER_BYTES +
		       (destination->gue_variant == GUE_DIRECT ? 0 : GUE_HEADER_BYTES);
	if (feature_gre && destination->forwarding == FORWARDING_GRE)
		return GRE_HEADER_BYTES;
	return 0;
}

/* All that the tunnel adds to a packet. */
static __always_inline __u32 tunnel_bytes(const struct destination *destination)
{
	return shim_bytes(destination) +
	       (is_ipv4_outside(destination) ? sizeof(struct iphdr) : sizeof(struct ipv6hdr));
}

/* What the outer headers of this packet name, behind the header of GUE or GRE. */
static __always_inline __u32 named_bytes(const struct choice *choice)
{
	return feature_second_chance ? (choice->named_words & NAMED_WORDS_MASK) * 4 : 0;
}

/* What an outer header takes over from the inner one (RFC 2003, 3.1; RFC 2473, 6.4; RFC 6040, 4). IPv6
 * inside an IPv4 header forbids fragmentation: no router has the right to it. */
struct inner {
	__u8 family;
	__u8 class;             /* DSCP and ECN */
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
	} else {
		struct ipv6hdr *ip = ip_header(ctx, packet);

		if (!is_there(ctx, ip, sizeof(*ip)))
			return false;
		inner->class = bpf_ntohl(*(word *)ip) >> CLASS_SHIFT;
		inner->dont_fragment = bpf_htons(FRAGMENT_DONT);
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

/* What stands between the outer IP header and the packet inside, as that header names it. */
static __always_inline __u8 outer_protocol(const struct destination *destination,
					   const struct inner *inner)
{
	if (feature_gue && destination->forwarding == FORWARDING_GUE)
		return IPPROTO_UDP;
	if (feature_gre && destination->forwarding == FORWARDING_GRE)
		return IPPROTO_GRE;
	return inner->family == 4 ? IPPROTO_IPIP : IPPROTO_IPV6;
}

/* Without DF somebody may cut the outer packet to pieces, which only an identification keeps together.
 * That of the inner one will not do: other clients have the same between the same outer addresses, and
 * so have the fragments of one datagram (RFC 6864, 4.3; RFC 2003, 3.1). */
static __always_inline __be16 fresh_identification(void)
{
	__u32 only = 0;
	__u32 *given = bpf_map_lookup_elem(&outer_identifications, &only);

	if (!given)
		return 0;
	*given += 1;
	return bpf_htons(bpf_get_smp_processor_id() * IDENTIFICATION_STRIDE + *given);
}

static __always_inline void write_outer_ipv4(struct iphdr *ip,
					     const struct destination *destination, __be32 host,
					     __u32 between, const struct inner *inner)
{
	ip->version = 4;
	ip->ihl = 5;
	ip->tos = inner->class;
	ip->tot_len = bpf_htons(sizeof(*ip) + between + inner->length);
	ip->id = inner->dont_fragment ? 0 : fresh_identification();
	ip->frag_off = inner->dont_fragment;
	ip->ttl = OUTER_TTL;
	ip->protocol = outer_protocol(destination, inner);
	ip->check = 0;
	ip->saddr = ((const word *)destination->tunnel_source)[3] | host;
	ip->daddr = ((const word *)destination->address)[3];
	ip->check = sum_ipv4_header(ip);
}

static __always_inline void write_outer_ipv6(struct ipv6hdr *ip,
					     const struct destination *destination, __be32 host,
					     __u32 between, const struct inner *inner)
{
	*(word *)ip = bpf_htonl(6u << 28 | (__u32)inner->class << CLASS_SHIFT);
	ip->payload_len = bpf_htons(between + inner->length);
	ip->nexthdr = outer_protocol(destination, inner);
	ip->hop_limit = OUTER_TTL;
	copy_address(&ip->saddr, destination->tunnel_source);
	((word *)&ip->saddr)[3] |= host;
	copy_address(&ip->daddr, destination->address);
}

/* UDP without a checksum, which tunnels may leave out in IPv6 too (RFC 6935, 5): what is inside has
 * its own, the receiver looks for its virtual address, and a sum over a payload is more than a
 * program at this place could make. */
static __always_inline bool write_gue(struct xdp_md *ctx, void *shim,
				      const struct choice *choice, __u32 between,
				      const struct inner *inner)
{
	__u16 source = GUE_SOURCE_PORT | (choice->flow_hash & GUE_SOURCE_PORT_MASK);
	const struct destination *destination = choice->destination;
	half_word *udp = shim;

	if (!is_there(ctx, shim, UDP_HEADER_BYTES + GUE_HEADER_BYTES))
		return false;
	udp[0] = bpf_htons(source);
	udp[1] = destination->gue_port;
	udp[2] = bpf_htons(between + inner->length);
	udp[3] = 0;
	/* Version 0, data, the length of what is named, the protocol inside, no flags. */
	if (destination->gue_variant == GUE_HEADER)
		*(word *)(shim + UDP_HEADER_BYTES) =
			bpf_htonl((named_bytes(choice) / 4) << GUE_LENGTH_SHIFT |
				  (inner->family == 4 ? IPPROTO_IPIP : IPPROTO_IPV6) << 16);
	return true;
}

/* Names one backend at `at`, from the beginning of the frame. */
static __always_inline bool write_name(struct xdp_md *ctx, __u32 at, __u32 id, bool ipv4)
{
	const struct destination *other = bpf_map_lookup_elem(&destinations, &id);
	void *to = (void *)(long)ctx->data + (at & FIELD_MASK);

	asm volatile("" : "+r"(to));
	if (!other || !is_there(ctx, to, sizeof(word)))
		return false;
	if (ipv4) {
		*(word *)to = ((const word *)other->address)[3];
		return true;
	}
	if (!is_there(ctx, to, 16))
		return false;
	copy_address(to, other->address);
	return true;
}

/* Who else may have the flow, behind the header of GUE or GRE: two ids, the first one in the lower half. Not
 * static: the verifier then checks it once and by itself, and not again for each state of its caller. */
__noinline int write_names(struct xdp_md *ctx, __u32 at, __u32 ids, __u32 form)
{
	bool ipv4 = form & NAMES_IPV4;
	__u32 first = ids & 0xffff, second = ids >> 16;
	void *field = (void *)(long)ctx->data + (at & FIELD_MASK);

	if (form & NAMES_KEY)
		return write_name(ctx, at, first, true);
	asm volatile("" : "+r"(field));
	if (!is_there(ctx, field, ALTERNATES_HEADER_BYTES))
		return false;
	*(word *)field = bpf_htonl((__u32)ALTERNATES_KIND << 24 | (second ? 2 : 1) << 16);
	at += ALTERNATES_HEADER_BYTES;
	return write_name(ctx, at, first, ipv4) &&
	       (!second || write_name(ctx, at + (ipv4 ? 4 : 16), second, ipv4));
}

static __always_inline bool name_others(struct xdp_md *ctx, const struct packet *packet,
					const struct choice *choice, bool ipv4_outside)
{
	const struct destination *destination = choice->destination;
	__u32 form = ipv4_outside ? NAMES_IPV4 : 0;

	if (feature_gre && destination->forwarding == FORWARDING_GRE)
		form |= NAMES_KEY;
	return write_names(ctx, ip_offset(packet) + tunnel_bytes(destination),
			   choice->alternates[0] | (__u32)choice->alternates[1] << 16, form);
}

/* Neither checksum nor sequence number, a key only to name somebody, version 0, the type of what is inside. */
static __always_inline bool write_gre(struct xdp_md *ctx, void *shim, bool names,
				      const struct inner *inner)
{
	if (!is_there(ctx, shim, GRE_HEADER_BYTES))
		return false;
	*(word *)shim = bpf_htonl((names ? GRE_KEY << 16 : 0) |
				  (inner->family == 4 ? ETH_P_IP : ETH_P_IPV6));
	return true;
}

/* Makes room in front and moves the link-layer header there; its addresses are written later. The
 * VLAN tags go along, as they are. Returns the place of the outer header, or NULL. */
static __always_inline void *make_room(struct xdp_md *ctx, const struct packet *packet,
				       __u32 length, __be16 protocol)
{
	void *data, *outer, *before;

	if (bpf_xdp_adjust_head(ctx, -(int)length))
		return NULL;
	data = (void *)(long)ctx->data;
	before = data + (length & ROOM_MASK);
	/* As it stands: see ip_header. */
	asm volatile("" : "+r"(before));
	outer = ip_header(ctx, packet);
	if (!is_there(ctx, before, sizeof(struct ethhdr) + VLAN_TAGS_MAX * VLAN_TAG_BYTES) ||
	    !is_there(ctx, data, sizeof(struct ethhdr) + VLAN_TAGS_MAX * VLAN_TAG_BYTES) ||
	    !is_there(ctx, outer, sizeof(struct ipv6hdr)))
		return NULL;
	if (packet->tag_bytes) {
		*(word *)(data + 12) = *(word *)(before + 12);
		*(word *)(data + 16) = *(word *)(before + 16);
	}
	*(__be16 *)(outer - sizeof(__be16)) = protocol;
	return outer;
}

/* A function of its own, or what it holds would lie on the stack of the main one, which Linux 6.1 limits. */
static __noinline enum verdict encapsulate(struct xdp_md *ctx, const struct packet *packet,
					   const struct choice *choice, bool ipv4_outside)
{
	const struct destination *destination = choice->destination;
	__u32 named = named_bytes(choice), between = shim_bytes(destination) + named;
	__be32 host = tunnel_host(choice);
	void *outer, *shim;
	struct inner inner;

	if (!look_inside(ctx, packet, &inner))
		return DROP_NO_ROOM;
	outer = make_room(ctx, packet, tunnel_bytes(destination) + named,
			  ipv4_outside ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6));
	if (!outer)
		return DROP_NO_ROOM;
	if (ipv4_outside) {
		write_outer_ipv4(outer, destination, host, between, &inner);
		shim = outer + sizeof(struct iphdr);
	} else {
		write_outer_ipv6(outer, destination, host, between, &inner);
		shim = outer + sizeof(struct ipv6hdr);
	}
	if (feature_gue && destination->forwarding == FORWARDING_GUE &&
	    !write_gue(ctx, shim, choice, between, &inner))
		return DROP_NO_ROOM;
	if (feature_gre && destination->forwarding == FORWARDING_GRE &&
	    !write_gre(ctx, shim, named, &inner))
		return DROP_NO_ROOM;
	if (named && !name_others(ctx, packet, choice, ipv4_outside))
		return DROP_NO_ROOM;
	return VERDICT_CONTINUE;
}
