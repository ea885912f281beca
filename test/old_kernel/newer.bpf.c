/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * A program that only kernels from 6.6 on load: it has one of the instructions that came then (an
 * unconditional byte swap, RFC 9669, 4.2). An older kernel that loads it is none.
 */
#include <linux/bpf.h>
#include <bpf/bpf_helpers.h>

SEC("xdp")
int newer(struct xdp_md *ctx __attribute__((unused)))
{
	/* bswap16 r0, as bytes: clang 14 does not know it. */
	asm volatile("r0 = 512\n.8byte 0x00000010000000d7" : : : "r0");
	return XDP_PASS;
}

char LICENSE[] SEC("license") = "GPL";
