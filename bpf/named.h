/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Which other backends the outer headers of a packet name, as far as there is room. Knows what was chosen and whose
 * the slot is; knows no byte of a header. withAlternates() in src/model/flow_decide.ts is its twin.
 */
#pragma once

#include "choice.h"

/* `id`, if a tunnel to the destination `chosen` can name it: another host that is alive, by the same tunnel.
 * Else 0. nameable() in src/model/alternates.ts. Not static: the verifier then checks it once and by itself,
 * and not again for each state of its caller. */
__noinline int nameable(__u32 id, __u32 chosen)
{
	const struct destination *other = bpf_map_lookup_elem(&destinations, &id);
	const struct destination *one = bpf_map_lookup_elem(&destinations, &chosen);
	__u32 active;

	if (!id || id == chosen || !other || !one || !(other->flags & DESTINATION_LIVE))
		return 0;
	active = *(volatile __u32 *)&other->next_hop_active & 1;
	if (other->next_hops[active].flags & NEXT_HOP_LOCAL)
		return 0;
	return other->forwarding == one->forwarding && other->gue_port == one->gue_port &&
	       other->gue_variant == one->gue_variant &&
	       is_ipv4_mapped(other->address) == is_ipv4_mapped(one->address) ? id : 0;
}

static __always_inline __u32 room_for_names(const struct destination *chosen)
{
	if (feature_gre && chosen->forwarding == FORWARDING_GRE)
		return is_ipv4_mapped(chosen->address) ? 1 : 0;
	return feature_gue && chosen->forwarding == FORWARDING_GUE &&
	       chosen->gue_variant == GUE_HEADER ? NAMED_MAX : 0;
}

static __always_inline __u8 words_for_names(const struct destination *chosen, __u32 names)
{
	if (!names)
		return 0;
	if (feature_gre && chosen->forwarding == FORWARDING_GRE)
		return GRE_KEY_BYTES / 4;
	return ALTERNATES_HEADER_BYTES / 4 + names * (is_ipv4_mapped(chosen->address) ? 1 : 4);
}

/* Names `id` too, if it can be named, is not yet, and there is room. */
static __always_inline void name(struct choice *choice, __u32 id, __u32 room)
{
	id = nameable(id, choice->id);
	if (!id || id == choice->alternates[0])
		return;
	if (!choice->alternates[0])
		choice->alternates[0] = id;
	else if (!choice->alternates[1] && room > 1)
		choice->alternates[1] = id;
}

/* Notes who else may have the packet's flow: who was noted when it was taken over, the owner of its slot, and
 * the untracked owner. Where the slot is settled, nobody, and nothing is looked at. */
static __noinline int name_alternates(const struct packet *packet,
				      const struct service_version *version, struct choice *choice)
{
	__u32 hash, room;

	if (!choice->destination)
		return 0;
	room = room_for_names(choice->destination);
	choice->named_words = words_for_names(choice->destination, room) << NAMED_WORDS_MAX_SHIFT;
	if (!room || (choice->tracking != TRACKING_FULL && choice->outcome == TRACKING_OUTCOMES))
		return 0;
	if (choice->entry && choice->effect != EFFECT_REMEMBER)
		name(choice, choice->entry->other & FLOW_OTHER_MASK, room);
	hash = hash_of(packet, &version->scheme);
	name(choice, word_in_ring(&version->scheme, hash) & SLOT_BACKEND_MASK, room);
	name(choice, untracked_owner(packet, version, choice->service, hash, choice->now_ns) & SLOT_BACKEND_MASK, room);
	if (choice->alternates[0])
		choice->named_words |= words_for_names(choice->destination, choice->alternates[1] ? 2 : 1);
	return 0;
}
