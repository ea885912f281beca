/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The VLAN that a frame leaves in, where the next hop is in one: one tag (IEEE 802.1Q), whatever
 * tags the frame came with. Knows the frame; knows no service and no tunnel.
 */
#pragma once

#include "packet.h"

enum { VLAN_PRIORITY_MASK = 0xf000 };

/* The priority of the outermost tag stays. What is in front of the IP header moves, the header does
 * not; link-layer addresses are written later. */
static __noinline int retag(struct xdp_md *ctx, const struct packet *packet, __u32 vlan)
{
	int surplus = (int)(packet->tag_bytes & TAG_BYTES_MASK) - VLAN_TAG_BYTES;
	half_word *type = (void *)(long)ctx->data + 12;
	__u32 control = vlan;

	if (!is_there(ctx, type, 2 + VLAN_TAG_BYTES))
		return DROP_NO_ROOM;
	if (surplus >= 0)
		control |= bpf_ntohs(type[1]) & VLAN_PRIORITY_MASK;
	if (surplus && bpf_xdp_adjust_head(ctx, surplus))
		return DROP_NO_ROOM;
	type = (void *)(long)ctx->data + 12;
	if (!is_there(ctx, type, 2 + VLAN_TAG_BYTES))
		return DROP_NO_ROOM;
	type[0] = bpf_htons(ETH_P_8021Q);
	type[1] = bpf_htons(control);
	return VERDICT_CONTINUE;
}
