/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The checksum of a received ICMP message (RFC 792; RFC 4443, 2.3). Knows the frame and sums; knows
 * no message's meaning. isIcmpSumRight() in src/model/icmp_sum.ts is its twin.
 */
#pragma once

#include "checksum.h"
#include "packet.h"

/* IPv6 errors are no longer (RFC 4443, 2.4), nor are those of IPv4 in practice (RFC 1812, 4.3.2.3: 576
 * bytes). */
enum { SUMMED_BYTES_MAX = 1280, SUMMED_AT_ONCE = 64 };

/* What is left of a sum over so many bytes, and what was summed before: 0, if the checksum among them is
 * right; negative: they are not all there. Not static: the verifier then checks it once. */
__noinline int sum_bytes(struct xdp_md *ctx, __u32 at, __u32 length, __u32 before)
{
	__s64 sum = before;
	void *bytes;

	for (int i = 0; i < SUMMED_BYTES_MAX / SUMMED_AT_ONCE && length >= SUMMED_AT_ONCE; i++) {
		bytes = bytes_at(ctx, at, SUMMED_AT_ONCE);
		if (!bytes)
			return -1;
		sum = bpf_csum_diff(NULL, 0, bytes, SUMMED_AT_ONCE, sum);
		at += SUMMED_AT_ONCE;
		length -= SUMMED_AT_ONCE;
	}
	for (int i = 0; i < SUMMED_AT_ONCE / 2 && length >= 2; i++) {
		bytes = bytes_at(ctx, at, 2);
		if (!bytes)
			return -1;
		sum += *(half_word *)bytes;
		at += 2;
		length -= 2;
	}
	if (length) {
		bytes = bytes_at(ctx, at, 1);
		if (!bytes)
			return -1;
		sum += bpf_htons(*(__u8 *)bytes << 8);
	}
	return fold_sum((sum & 0xffffffff) + (sum >> 32));
}

/* The pseudo-header of IPv6 (RFC 8200, 8.1); IPv4's messages have none. */
static __always_inline int sum_pseudo_header(struct xdp_md *ctx, const struct packet *packet, __u32 length)
{
	const struct ipv6hdr *ip = ip_header(ctx, packet);
	word pseudo[10];

	if (packet->family == 4)
		return 0;
	if (!is_there(ctx, ip, sizeof(*ip)))
		return 0;
	copy_address(pseudo, &ip->saddr);
	copy_address(pseudo + 4, &ip->daddr);
	pseudo[8] = bpf_htonl(length);
	pseudo[9] = bpf_htonl(IPPROTO_ICMPV6);
	return bpf_csum_diff(NULL, 0, pseudo, sizeof(pseudo), 0);
}

/* No for messages that are longer than anybody sums up here. */
static __always_inline bool is_icmp_sum_right(struct xdp_md *ctx, const struct packet *packet)
{
	__u32 length = ip_offset(packet) + packet->ip_length - packet->transport;

	return length <= SUMMED_BYTES_MAX &&
	       sum_bytes(ctx, packet->transport, length, sum_pseudo_header(ctx, packet, length)) == 0;
}
