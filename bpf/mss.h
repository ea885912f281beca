/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Lowers the largest segment that a TCP SYN asks for (RFC 9293, 3.7.1), for networks in which larger
 * ones get lost and nobody says so. Knows TCP options and the sum over them.
 */
#pragma once

#include "translate.h"

/* Senders have it first. To look at all forty bytes of options would cost the verifier twice as much
 * as the rest of the program. */
enum { TCP_OPTIONS_SEEN = 8 };
enum { TCP_END = 0, TCP_NOP = 1, TCP_MSS = 2, TCP_MSS_BYTES = 4 };

/* Where the option begins that tells the largest segment; 0: there is none, or what is before it
 * makes no sense. */
static __always_inline __u32 find_mss(struct xdp_md *ctx, __u32 at, __u32 stop)
{
	for (int i = 0; i < TCP_OPTIONS_SEEN; i++) {
		const __u8 *option = at + 2 <= stop ? bytes_at(ctx, at, 2) : NULL;

		if (!option || option[0] == TCP_END)
			return 0;
		if (option[0] == TCP_NOP) {
			at += 1;
			continue;
		}
		if (option[0] == TCP_MSS)
			return option[1] == TCP_MSS_BYTES && at + TCP_MSS_BYTES <= stop ? at : 0;
		if (option[1] < 2)
			return 0;
		at += option[1];
	}
	return 0;
}

/* Not static: see skip_extensions. */
__noinline int clamp_mss(struct xdp_md *ctx, const struct packet *packet, __u16 mss_max)
{
	__u32 at, stop;
	__u8 *header, *mss;
	half_word *sum;
	__u16 before, after;

	if (!packet)
		return 0;
	header = bytes_at(ctx, packet->transport, TCP_HEADER_BYTES);
	if (!header)
		return 0;
	stop = packet->transport + (header[TCP_LENGTH_OFFSET] >> 4) * 4;
	if (stop > ip_offset(packet) + packet->ip_length)
		return 0;
	at = find_mss(ctx, packet->transport + TCP_HEADER_BYTES, stop);
	mss = at ? bytes_at(ctx, at, TCP_MSS_BYTES) : NULL;
	if (!mss || (mss[2] << 8 | mss[3]) <= mss_max)
		return 0;
	sum = bytes_at(ctx, packet->transport + TCP_SUM_OFFSET, sizeof(*sum));
	if (!sum)
		return 0;
	before = bpf_htons(mss[2] << 8 | mss[3]);
	after = bpf_htons(mss_max);
	/* Words count from the header's beginning: the value may lie across two of them. */
	if ((at - packet->transport) & 1) {
		before = before << 8 | before >> 8;
		after = after << 8 | after >> 8;
	}
	mss[2] = mss_max >> 8;
	mss[3] = mss_max;
	*sum = replace_in_sum(*sum, before, after);
	return 0;
}
