/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The later fragments of a datagram: they have no ports, and follow the first one, which left them
 * in `fragments`. Knows that map and no other; src/model/fragment.ts is its twin.
 */
#pragma once

#include "maps.h"
#include "packet.h"

/* How long a datagram's ports are remembered. By then Linux has given up reassembling it
 * (ip-sysctl, ipfrag_time), and its identification may be another one's. */
#define FRAGMENT_LIFE_NS 30000000000ull

/* The key under which a fragment's datagram is remembered: made of the packet alone, and made the
 * same way for writing as for reading. */
static __always_inline void make_fragment_key(const struct packet *packet, struct fragment_key *key)
{
	copy_address(key->source, packet->flow.source);
	copy_address(key->destination, packet->flow.service.address);
	key->identification = packet->identification;
	key->protocol = packet->family == 4 ? packet->flow.service.protocol : 0;
	key->pad[0] = 0;
	key->pad[1] = 0;
	key->pad[2] = 0;
}

/* Gives a later fragment the ports that its datagram's first one had, if that is known: from then
 * on it is a packet of its flow like any other. Not static: behind the call the verifier knows
 * nothing of the packet, so that all of them are one case to it, and not one for each way to get
 * here. Linux 6.1 wants every byte of the packet to be written before. */
__noinline int find_ports(struct packet *packet)
{
	const struct fragment_entry *entry;
	struct fragment_key key;

	if (!packet)
		return false;
	make_fragment_key(packet, &key);
	entry = bpf_map_lookup_elem(&fragments, &key);
	if (!entry || entry->remembered_ns + FRAGMENT_LIFE_NS < bpf_ktime_get_coarse_ns())
		return false;
	packet->flow.source_port = entry->source_port;
	packet->flow.service.port = entry->destination_port;
	packet->flow.service.protocol = entry->protocol;
	packet->kind = KIND_FLOW;
	packet->role = ROLE_LATER_FRAGMENT;
	return true;
}

static __always_inline bool follows_first(struct packet *packet)
{
	return packet->kind == KIND_LATER_FRAGMENT && find_ports(packet);
}

/* Of a first fragment that is on its way. */
static __always_inline void remember_ports(const struct packet *packet)
{
	struct fragment_entry entry = {
		.remembered_ns = bpf_ktime_get_coarse_ns(),
		.source_port = packet->flow.source_port,
		.destination_port = packet->flow.service.port,
		.protocol = packet->flow.service.protocol,
	};
	struct fragment_key key;

	make_fragment_key(packet, &key);
	bpf_map_update_elem(&fragments, &key, &entry, BPF_ANY);
}
