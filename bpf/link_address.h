/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Whether a frame is for this host at all: XDP comes before the kernel has looked, and on a port of a
 * bridge, behind a switch that floods, or in promiscuous mode frames for others come by. Knows
 * `link_addresses` and the first bytes of the frame; isForThisHost() in src/model/link_address.ts is
 * its twin.
 */
#pragma once

#include "checksum.h"
#include "maps.h"
#include "packet.h"

/* Most frames have the address of the interface itself. Read from the frame in the widths in which
 * it is compared: what was stored in others would have to be waited for. */
static __always_inline bool is_first(const half_word *destination, __u32 ifindex)
{
	word high = *(const word *)destination, low = destination[2];
	__u32 key;

	/* In a row: Linux 6.1 takes a counter that lies on the stack, as a key does, for one that stays. */
#pragma clang loop unroll(full)
	for (int place = 0; place < FIRST_LINK_ADDRESSES; place++) {
		const word *first;

		key = place;
		first = bpf_map_lookup_elem(&first_link_addresses, &key);
		if (first && first[0] == ifindex && first[1] == high && first[2] == low)
			return true;
	}
	return false;
}

/* Where no address of the interface is known, every frame is. */
static __always_inline bool is_for_this_host(struct xdp_md *ctx)
{
	const half_word *destination = (void *)(long)ctx->data;
	struct link_address key = { .ifindex = ctx->ingress_ifindex };
	half_word *mac = (half_word *)key.mac;

	if (!is_there(ctx, destination, sizeof(key.mac)))
		return false;
	if (is_first(destination, key.ifindex))
		return true;
	for (int i = 0; i < 3; i++)
		mac[i] = destination[i];
	if (bpf_map_lookup_elem(&link_addresses, &key))
		return true;
	for (int i = 0; i < 3; i++)
		mac[i] = 0;
	key.is_interface = 1;
	return !bpf_map_lookup_elem(&link_addresses, &key);
}
