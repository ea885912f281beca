/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * ICMP errors about our own tunnels: what they quote was sent by this host, from the outer source of
 * a destination to that destination, in the form that its tunnel has. Nobody else has a use for
 * them: what they say is noted at the end of the tunnel, and they go no further. Knows the maps for
 * it; the supervisor draws the conclusions (src/dataplane/xdp/path_mtu.ts). tunnelErrorOf() in
 * src/model/tunnel_error.ts is its twin.
 *
 * The checksum is verified here, since nobody does after us: what is damaged passes, and the kernel
 * drops it. Whoever forges one has to know the outer source, and can neither raise an MTU nor bring it
 * below the minimum.
 */
#pragma once

#include "icmp_sum.h"
#include "maps.h"

enum { ICMP_FRAGMENTATION_NEEDED = 4, ICMPV6_TOO_BIG = 2 };
/* The least that tunnels of ours have: see write_gue. */
enum { QUOTED_SOURCE_PORT_MIN = 0xc000 };
/* Every host takes so much (RFC 791, 3.1), and links that carry less are none. IPv6 has no less than
 * 1280; an error that says so is false (RFC 8201, 4). */
enum { IPV4_MTU_MIN = 576, IPV6_MTU_MIN = 1280 };

/* From a source of the tunnel to this destination: a prefix of them, where it varies by flow. */
static __always_inline bool is_end_of(const struct destination *destination,
				      const struct packet *packet)
{
	const word *own = (const word *)packet->flow.service.address;
	const word *source = (const word *)destination->tunnel_source;

	return own[0] == source[0] && own[1] == source[1] && own[2] == source[2] &&
	       (own[3] & ~destination->tunnel_source_mask) == source[3] &&
	       is_same_address(packet->flow.source, destination->address) &&
	       (packet->flow.service.protocol != IPPROTO_UDP ||
		bpf_ntohs(packet->flow.service.port) >= QUOTED_SOURCE_PORT_MIN);
}

/* What a router of before RFC 1191 would have said, which says 0: the next plateau below what it
 * refused (RFC 1191, 7.1). */
static __always_inline __u32 plateau_below(__u32 length)
{
	if (length > 32000)
		return 32000;
	if (length > 17914)
		return 17914;
	if (length > 8166)
		return 8166;
	if (length > 4352)
		return 4352;
	if (length > 2002)
		return 2002;
	if (length > 1492)
		return 1492;
	return length > 1006 ? 1006 : IPV4_MTU_MIN;
}

/* The path MTU that the error tells; 0: none. `icmp` has its header and four bytes of the quote. */
static __always_inline __u32 told_mtu(const struct packet *packet, const __u8 *icmp)
{
	__u32 mtu;

	if (packet->family == 6) {
		mtu = bpf_ntohl(*(const word *)(icmp + 4));
		return mtu < IPV6_MTU_MIN ? 0 : mtu;
	}
	mtu = bpf_ntohs(*(const half_word *)(icmp + 6));
	if (mtu == 0)
		mtu = plateau_below(bpf_ntohs(*(const half_word *)(icmp + ICMP_HEADER_BYTES + 2)));
	return mtu < IPV4_MTU_MIN ? IPV4_MTU_MIN : mtu;
}

static __always_inline bool is_too_big(const struct packet *packet, const __u8 *icmp)
{
	if (packet->family == 6)
		return icmp[0] == ICMPV6_TOO_BIG;
	return icmp[0] == ICMP_UNREACHABLE && icmp[1] == ICMP_FRAGMENTATION_NEEDED;
}

/* Only what lowers the MTU in force is news. The time comes last: with it, the rest counts. */
static __always_inline void note_error(struct tunnel_end *end, const struct packet *packet,
				       const struct destination *destination, const __u8 *icmp)
{
	__u32 active = *(volatile __u32 *)&destination->next_hop_active & 1;
	__u32 in_force = destination->next_hops[active].mtu, mtu;

	if (!is_too_big(packet, icmp)) {
		end->unreachable = icmp[0] << 8 | icmp[1];
		*(volatile __u64 *)&end->unreachable_ns = bpf_ktime_get_coarse_ns();
		return;
	}
	mtu = told_mtu(packet, icmp);
	if (mtu == 0 || (in_force && mtu >= in_force))
		return;
	end->mtu = mtu;
	*(volatile __u64 *)&end->mtu_ns = bpf_ktime_get_coarse_ns();
}

/* Whether this ICMP error, which quotes what its own destination had sent, is about a tunnel. */
static __noinline bool is_about_tunnel(struct xdp_md *ctx, const struct packet *packet)
{
	struct service_key key = {
		.port = packet->flow.source_port, .protocol = packet->flow.service.protocol,
	};
	const struct destination *destination;
	struct tunnel_end *end;
	const __u8 *icmp;
	__u32 id;

	copy_address(key.address, packet->flow.source);
	end = bpf_map_lookup_elem(&tunnel_ends, &key);
	if (!end)
		return false;
	id = end->destination;
	destination = bpf_map_lookup_elem(&destinations, &id);
	if (!destination || !is_end_of(destination, packet) || !is_icmp_sum_right(ctx, packet))
		return false;
	icmp = bytes_at(ctx, packet->transport, ICMP_HEADER_BYTES + 4);
	if (icmp)
		note_error(end, packet, destination, icmp);
	return true;
}
