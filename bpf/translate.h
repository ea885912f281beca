/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Gives a packet other addresses and ports, with all that is summed over them: its own headers, and
 * those that an ICMP error quotes, which go the other way (RFC 3022, 4; RFC 5508). Knows headers and
 * sums; sums are carried, not made. Knows no flow and no map.
 */
#pragma once

#include "checksum.h"
#include "packet.h"

/* What was added to and taken from the words under a sum. */
static __always_inline __u16 carry_sum(__u16 sum, __u64 delta)
{
	__u64 total = (__u16)~sum + (delta & 0xffff) + (delta >> 16 & 0xffff) + (delta >> 32);

	total = (total & 0xffff) + (total >> 16);
	total = (total & 0xffff) + (total >> 16);
	return ~total;
}

static __always_inline __u64 put_word(word *at, __u32 value)
{
	__u64 delta = (__u64)(__u32)~*at + value;

	*at = value;
	return delta;
}

static __always_inline __u64 put_half_word(half_word *at, __u16 value)
{
	__u64 delta = (__u64)(__u16)~*at + value;

	*at = value;
	return delta;
}

/* What rewriting changed under the sums around. */
struct changes {
	__u64 addresses;        /* what a pseudo-header shows of them */
	__u64 header;           /* all of the IP header, its own sum included */
};

static __always_inline __u64 put_ipv6(void *at, const __u8 *address)
{
	__u64 delta = 0;

	for (int i = 0; i < 4; i++)
		delta += put_word((word *)at + i, ((const word *)address)[i]);
	return delta;
}

/* Writes the addresses of the IP header at this offset; its own sum goes along. A source of NULL
 * stays. */
static __always_inline bool put_addresses(struct xdp_md *ctx, __u32 offset, __u8 family,
					  const __u8 *source, const __u8 *destination,
					  struct changes *changes)
{
	if (family == 4) {
		struct iphdr *ip = bytes_at(ctx, offset, sizeof(*ip));
		__u16 before;

		if (!ip)
			return false;
		before = ip->check;
		changes->addresses = put_word((word *)&ip->daddr, ((const word *)destination)[3]);
		if (source)
			changes->addresses += put_word((word *)&ip->saddr, ((const word *)source)[3]);
		ip->check = carry_sum(before, changes->addresses);
		changes->header = changes->addresses + (__u16)~before + ip->check;
	} else {
		struct ipv6hdr *ip = bytes_at(ctx, offset, sizeof(*ip));

		if (!ip)
			return false;
		changes->addresses = put_ipv6(&ip->daddr, destination);
		if (source)
			changes->addresses += put_ipv6(&ip->saddr, source);
		changes->header = changes->addresses;
	}
	return true;
}

/* A sum of zero says in UDP that there is none (RFC 768), and that stays so. */
static __always_inline void carry_transport_sum(half_word *sum, __u8 protocol, __u64 delta)
{
	bool is_udp = protocol == IPPROTO_UDP;

	if (is_udp && !*sum)
		return;
	*sum = carry_sum(*sum, delta);
	if (is_udp && !*sum)
		*sum = 0xffff;
}

static __always_inline __u32 sum_offset(__u8 protocol)
{
	return protocol == IPPROTO_TCP ? TCP_SUM_OFFSET : UDP_SUM_OFFSET;
}

/* What an ICMP error quotes was on its way back: its source is where the error goes now, and its
 * destination what the error's flow comes from. A sum that lies under another one changes that, too. */
static __always_inline bool translate_quote(struct xdp_md *ctx, const struct packet *packet,
					    const struct flow_key *to, __u64 *delta)
{
	__u32 sum_at = packet->quoted + sum_offset(packet->flow.service.protocol);
	struct changes changes;
	half_word *ports, *sum;
	__u64 moved;
	__u16 before;

	if (!put_addresses(ctx, packet->transport + ICMP_HEADER_BYTES, packet->family, to->source,
			   to->service.address, &changes))
		return false;
	ports = bytes_at(ctx, packet->quoted, 2 * sizeof(*ports));
	if (!ports)
		return false;
	moved = put_half_word(ports, to->source_port);
	moved += put_half_word(ports + 1, to->service.port);
	*delta = changes.header + moved;
	if (sum_at + sizeof(*sum) > ip_offset(packet) + packet->ip_length)
		return true;
	sum = bytes_at(ctx, sum_at, sizeof(*sum));
	if (!sum)
		return true;
	before = *sum;
	carry_transport_sum(sum, packet->flow.service.protocol, changes.addresses + moved);
	*delta += (__u64)(__u16)~before + *sum;
	return true;
}

/* An error's own source stays, unless the flow gets another one: then nobody behind us knows whose
 * way it was on. */
static __always_inline bool translate_error(struct xdp_md *ctx, const struct packet *packet,
					    const struct flow_key *to)
{
	bool keeps = is_same_address(to->service.address, packet->flow.source);
	struct changes outer;
	half_word *sum;
	__u64 delta;

	if (!put_addresses(ctx, ip_offset(packet), packet->family,
			   keeps ? NULL : to->service.address, to->source, &outer) ||
	    !translate_quote(ctx, packet, to, &delta))
		return false;
	/* Only ICMPv6 has the addresses under its sum (RFC 4443, 2.3). */
	if (packet->family == 6)
		delta += outer.addresses;
	sum = bytes_at(ctx, packet->transport + ICMP_SUM_OFFSET, sizeof(*sum));
	if (!sum)
		return false;
	*sum = carry_sum(*sum, delta);
	return true;
}

/* Makes the packet one that comes from where the flow `to` arrives and goes to where that comes
 * from. False: it is too short for what parsing saw in it, and may be half done. Not static: see
 * skip_extensions. */
__noinline int translate(struct xdp_md *ctx, const struct packet *packet, const struct flow_key *to)
{
	struct changes changes;
	half_word *ports, *sum;

	if (!packet || !to)
		return false;
	if (packet->role == ROLE_ICMP_ERROR)
		return translate_error(ctx, packet, to);
	if (!put_addresses(ctx, ip_offset(packet), packet->family, to->service.address, to->source,
			   &changes))
		return false;
	if (packet->role == ROLE_LATER_FRAGMENT)
		return true;
	ports = bytes_at(ctx, packet->transport, 2 * sizeof(*ports));
	if (!ports)
		return false;
	changes.addresses += put_half_word(ports, to->service.port);
	changes.addresses += put_half_word(ports + 1, to->source_port);
	sum = bytes_at(ctx, packet->transport + sum_offset(packet->flow.service.protocol),
		       sizeof(*sum));
	if (!sum)
		return false;
	carry_transport_sum(sum, packet->flow.service.protocol, changes.addresses);
	return true;
}
