/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The Internet checksum (RFC 1071), made and carried. Knows sums of 16-bit words and nothing else.
 */
#pragma once

#include <linux/types.h>
#include <bpf/bpf_helpers.h>

typedef __u16 __attribute__((may_alias)) half_word;

/* A checksum after one of the words under it was replaced (RFC 1624, equation 3). */
static __always_inline __u16 replace_in_sum(__u16 sum, __u16 from, __u16 to)
{
	__u32 total = (__u16)~sum + (__u16)~from + to;

	total = (total & 0xffff) + (total >> 16);
	total = (total & 0xffff) + (total >> 16);
	return ~total;
}

/* The checksum that a sum of words makes. */
static __always_inline __u16 fold_sum(__s64 sum)
{
	__u32 total = sum;

	total = (total & 0xffff) + (total >> 16);
	total = (total & 0xffff) + (total >> 16);
	return ~total;
}

/* The sum over an IPv4 header of 20 bytes whose checksum field is zero. */
static __always_inline __u16 sum_ipv4_header(const void *header)
{
	const half_word *words = header;
	__u32 total = 0;

	for (int i = 0; i < 10; i++)
		total += words[i];
	total = (total & 0xffff) + (total >> 16);
	total = (total & 0xffff) + (total >> 16);
	return ~total;
}
