/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The kernel's own header, but for one struct: natively a frame does not lie in the first 4 GiB, so
 * its bounds are as wide as pointers. Knows nothing else.
 */
#pragma once

#define xdp_md kernel_xdp_md
#include_next <linux/bpf.h>
#undef xdp_md

struct xdp_md {
	unsigned long data;
	unsigned long data_end;
	unsigned long data_meta;
	__u32 ingress_ifindex;
	__u32 rx_queue_index;
	__u32 egress_ifindex;
};
