/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Sends health probes the way that clients' packets go: each to the backend that its source names,
 * with the headers and by the next hop that forward.h gives to everybody. It sits on an interface
 * that the kernel's own sockets send probes to. Knows forwarding and who asked for what; chooses
 * nobody, counts nothing, and lets nothing through.
 */
/* Not all that the packet path does with a packet can happen to a probe. */
#pragma clang diagnostic ignored "-Wunused-function"
#include "packet.h"
#include "decide.h"
#include "tunnel.h"
#include "too_big.h"
#include "forward.h"

/* A path is written before its probe's first packet and replaced when its port is used again: a
 * connection that is being closed still needs it. Many more than there are probes at once. */
struct {
	__uint(type, BPF_MAP_TYPE_LRU_HASH);
	__type(key, struct probe_key);
	__type(value, struct probe_path);
	__uint(max_entries, 16384);
} probe_paths SEC(".maps");

/* The backend that this probe is for, unless its id has become somebody else's. */
static __always_inline const struct destination *probed(const struct packet *packet,
							struct choice *choice)
{
	struct probe_key key = { .port = packet->flow.source_port };
	const struct destination *destination;
	const struct probe_path *path;
	__u32 id;

	copy_address(key.address, packet->flow.source);
	path = bpf_map_lookup_elem(&probe_paths, &key);
	if (!path)
		return NULL;
	id = path->destination;
	destination = bpf_map_lookup_elem(&destinations, &id);
	if (!destination || destination->generation != path->generation)
		return NULL;
	choice->destination = destination;
	choice->tunnel_source_mask = destination->tunnel_source_mask;
	/* Outer headers that vary by flow vary by probe. */
	choice->flow_hash = path->flow_hash;
	return destination;
}

SEC("xdp")
int probe(struct xdp_md *ctx)
{
	struct choice choice = {};
	struct packet packet;

	if (parse_packet(ctx, &packet) != VERDICT_CONTINUE || packet.kind != KIND_FLOW ||
	    packet.role != ROLE_PACKET || packet.flow.service.protocol != IPPROTO_TCP)
		return XDP_DROP;
	if (!probed(&packet, &choice) || forward(ctx, &packet, &choice) != TX_FORWARDED)
		return XDP_DROP;
	return choice.action;
}

char LICENSE[] SEC("license") = "GPL";
