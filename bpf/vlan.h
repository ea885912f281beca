/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The VLAN tags that a frame leaves with, where they are others than it came with: those of the next
 * hop's VLAN (IEEE 802.1Q), none, or a client's. Knows the frame; knows no service and no tunnel.
 */
#pragma once

#include "packet.h"

enum { VLAN_PRIORITY_MASK = 0xf000 };

/* Has so many bytes of these tags instead of those that the frame came with. What is in front of the
 * IP header moves, the header does not. Returns where the frame begins now; its link-layer addresses
 * are still to be written. NULL: there is no room. */
static __always_inline void *put_tags(struct xdp_md *ctx, const struct packet *packet,
				      const word *tags, __u32 bytes)
{
	int surplus = (int)(packet->tag_bytes & TAG_BYTES_MASK) - (int)bytes;
	word *frame;

	if (surplus && bpf_xdp_adjust_head(ctx, surplus))
		return NULL;
	frame = (void *)(long)ctx->data;
	if (!is_there(ctx, frame, 12 + VLAN_TAGS_MAX * VLAN_TAG_BYTES))
		return NULL;
	if (bytes > 0)
		frame[3] = tags[0];
	if (bytes > VLAN_TAG_BYTES)
		frame[4] = tags[1];
	return frame;
}

/* The priority of the outermost tag stays. */
static __noinline int retag(struct xdp_md *ctx, const struct packet *packet, __u32 vlan)
{
	const half_word *type = (void *)(long)ctx->data + 12;
	half_word tag[2] = { bpf_htons(ETH_P_8021Q), bpf_htons(vlan) };

	if (!is_there(ctx, type, VLAN_TAG_BYTES))
		return DROP_NO_ROOM;
	if (packet->tag_bytes)
		tag[1] |= type[1] & bpf_htons(VLAN_PRIORITY_MASK);
	if (!put_tags(ctx, packet, (const word *)tag, vlan == VLAN_NONE ? 0 : VLAN_TAG_BYTES))
		return DROP_NO_ROOM;
	return VERDICT_CONTINUE;
}
