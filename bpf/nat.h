/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Translated flows (RFC 3022): which source a new one gets, and when an old one's may be given to
 * somebody else. Knows `nat_flows` and what it is told of a packet; knows no byte of the frame.
 * src/model/nat.ts is its twin.
 */
#pragma once

#include "maps.h"
#include "packet.h"

/* With four of five ports taken, 32 that are picked all over the range miss once in a thousand
 * times. A step of the golden ratio spreads them (Knuth, The Art of Computer Programming, 6.4). */
enum { NAT_PROBES = 32 };
#define NAT_PROBE_STEP 0x9e3779b1u
enum { NAT_EEXIST = 17 };
/* What makes a flow one that is ending. */
enum { NAT_CLOSES = NAT_FIN | NAT_RST };

/* What a new flow needs, and in the end what it got. */
struct nat_claim {
	struct flow_key flow;   /* as its client sends */
	struct flow_key reply;  /* as its backend will answer: source and protocol to begin with */
	__u8 own_address[16];   /* this host's towards the backend */
	__u64 now_ns;
	__u32 hash;             /* of the 5-tuple */
	__u32 destination;
	__u32 generation;
	__u32 service;
	__u32 client_ifindex;
	__u8 client_macs[12];
	__u8 client_tags[8];
	__u32 client_tag_bytes;
	__u32 keeps_source;     /* the client's address, and its port if that is free */
};

/* Of the packet at hand: with the packet and what was decided, it would not fit the stack. And what
 * lies here may be a key of a map in functions that are checked by themselves, where Linux 6.1 takes
 * no other memory. */
struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct nat_claim);
	__uint(max_entries, 1);
} nat_claims SEC(".maps");

static __always_inline void count_nat(__u32 outcome)
{
	__u64 *count = bpf_map_lookup_elem(&nat_counts, &outcome);

	if (count)
		*count += 1;
}

static __always_inline bool is_unset(const void *address)
{
	const double_word *halves = address;

	return !(halves[0] | halves[1]);
}

static __always_inline bool is_same_key(const struct flow_key *a, const struct flow_key *b)
{
	const double_word *one = (const double_word *)a, *other = (const double_word *)b;

	return !((one[0] ^ other[0]) | (one[1] ^ other[1]) | (one[2] ^ other[2]) |
		 (one[3] ^ other[3]) | (one[4] ^ other[4]));
}

/* The first twelve bytes of an Ethernet header. */
static __always_inline void copy_macs(void *to, const void *from)
{
	((word *)to)[0] = ((const word *)from)[0];
	((word *)to)[1] = ((const word *)from)[1];
	((word *)to)[2] = ((const word *)from)[2];
}

/* The source that a new flow tries as its number `probe`; false: there is none. */
static __always_inline bool pick_source(struct nat_claim *claim, __u64 ports, __u32 probe)
{
	__u32 hash = claim->hash + probe * NAT_PROBE_STEP;
	__u32 first = ports & 0xffff, count = ports >> 16 & 0xffff;
	bool is_ipv4 = is_ipv4_mapped(claim->reply.source);
	__u64 sources = ports >> (is_ipv4 ? 32 : 40) & 0xff;
	struct flow_key *reply = &claim->reply;
	const struct address_key *address;
	__u64 spread;
	__u32 at;

	if (claim->keeps_source) {
		copy_address(reply->service.address, claim->flow.source);
		reply->service.port = claim->flow.source_port;
		if (probe == 0)
			return true;
	}
	if (count == 0)
		return false;
	spread = (__u64)hash * (sources && !claim->keeps_source ? sources : 1);
	reply->service.port = bpf_htons(first + ((spread & 0xffffffff) * count >> 32));
	if (claim->keeps_source)
		return true;
	if (!sources) {
		copy_address(reply->service.address, claim->own_address);
		return !is_unset(claim->own_address);
	}
	at = (spread >> 32) + (is_ipv4 ? NAT_SOURCES_IPV4 : NAT_SOURCES_IPV6);
	address = bpf_map_lookup_elem(&nat_sources, &at);
	if (!address)
		return false;
	copy_address(reply->service.address, address->address);
	return true;
}

/* Whether nobody needs the flow any more. Its two directions end together; how long after the last
 * packet depends on what both have seen. */
static __always_inline bool is_over(const struct nat_flow *reply, const struct nat_flow *forward,
				    const struct settings *setting, __u8 protocol, __u64 now_ns)
{
	__u8 flags = reply->flags | (forward ? forward->flags : 0);
	__u64 seen_ns = reply->last_seen_ns, life_ns;

	if (forward && forward->last_seen_ns > seen_ns)
		seen_ns = forward->last_seen_ns;
	if (protocol == IPPROTO_UDP)
		life_ns = setting->nat_udp_ns;
	else if (flags & NAT_RST)
		life_ns = setting->nat_rst_ns;
	else if (flags & NAT_FIN)
		life_ns = setting->nat_fin_ns;
	else if (reply->flags & (forward ? forward->flags : NAT_ANSWERED) & NAT_ANSWERED)
		life_ns = setting->nat_established_ns;
	else
		life_ns = setting->nat_syn_ns;
	return seen_ns + life_ns < now_ns;
}

/* Frees a key whose flow is over. Of several CPUs one gets it. */
static __always_inline bool take_over(const struct nat_claim *claim, const struct nat_flow *held,
				      const struct settings *setting)
{
	struct flow_key other __attribute__((aligned(8)));
	const struct nat_flow *forward;

	copy_flow_key(&other, &held->other);
	forward = bpf_map_lookup_elem(&nat_flows, &other);
	if (!is_over(held, forward, setting, claim->reply.service.protocol, claim->now_ns))
		return false;
	if (bpf_map_delete_elem(&nat_flows, &claim->reply))
		return false;
	bpf_map_delete_elem(&nat_flows, &other);
	count_nat(NAT_TAKEN_OVER);
	return true;
}

/* The other direction of an entry that leads to a backend that is gone, or may not keep it. */
static __always_inline void drop_stale(const struct nat_claim *claim)
{
	const struct nat_flow *stale = bpf_map_lookup_elem(&nat_flows, &claim->flow);
	struct flow_key other __attribute__((aligned(8)));

	if (!stale)
		return;
	copy_flow_key(&other, &stale->other);
	bpf_map_delete_elem(&nat_flows, &other);
	bpf_map_delete_elem(&nat_flows, &claim->flow);
}

/* What frames to the client begin with. */
static __always_inline void copy_way(struct nat_flow *entry, const struct nat_claim *claim)
{
	copy_macs(entry->client_macs, claim->client_macs);
	((word *)entry->client_tags)[0] = ((const word *)claim->client_tags)[0];
	((word *)entry->client_tags)[1] = ((const word *)claim->client_tags)[1];
	entry->client_tag_bytes = claim->client_tag_bytes;
}

static __always_inline void make_nat_flow(struct nat_flow *entry, const struct nat_claim *claim,
					  const struct flow_key *other, __u8 flags)
{
	entry->last_seen_ns = claim->now_ns;
	copy_flow_key(&entry->other, other);
	entry->destination = claim->destination;
	entry->generation = claim->generation;
	entry->service = claim->service;
	entry->client_ifindex = claim->client_ifindex;
	copy_way(entry, claim);
	entry->flags = flags;
	entry->pad[0] = 0;
	entry->pad[1] = 0;
}

/* Writes the direction of the backend's answers, under the first source that is free. */
static __always_inline enum verdict claim_reply(struct nat_claim *claim,
						const struct settings *setting,
						const struct nat_flow *entry)
{
	__u64 ports = *(volatile const __u64 *)&setting->nat_ports;

	for (__u32 probe = 0; probe < NAT_PROBES; probe++) {
		const struct nat_flow *held;
		long error;

		if (!pick_source(claim, ports, probe))
			return DROP_NO_PORT;
		error = bpf_map_update_elem(&nat_flows, &claim->reply, entry, BPF_NOEXIST);
		if (error == -NAT_EEXIST) {
			held = bpf_map_lookup_elem(&nat_flows, &claim->reply);
			/* Left by this very flow, or being claimed for it by another CPU. */
			if (held && is_same_key(&held->other, &claim->flow))
				error = bpf_map_update_elem(&nat_flows, &claim->reply, entry, BPF_ANY);
			else if (held && take_over(claim, held, setting))
				error = bpf_map_update_elem(&nat_flows, &claim->reply, entry, BPF_NOEXIST);
		}
		if (error == -NAT_EEXIST)
			continue;
		if (error)
			return DROP_NAT_FULL;
		if (claim->keeps_source && probe > 0)
			count_nat(NAT_PORT_TRANSLATED);
		return VERDICT_CONTINUE;
	}
	return DROP_NO_PORT;
}

/* Begins a translated flow: claims the key of the answers, so that no two flows share one, and only
 * then writes the key of the client's packets, with these flags.
 * Not static: see skip_extensions. */
__noinline int claim_nat(__u8 flags)
{
	struct settings *setting;
	struct nat_claim *claim;
	struct nat_flow entry;
	enum verdict verdict;
	__u32 only = 0;

	setting = bpf_map_lookup_elem(&settings, &only);
	claim = bpf_map_lookup_elem(&nat_claims, &only);
	if (!setting || !claim)
		return DROP_NO_PORT;
	drop_stale(claim);
	make_nat_flow(&entry, claim, &claim->flow, NAT_REPLY);
	verdict = claim_reply(claim, setting, &entry);
	if (verdict != VERDICT_CONTINUE)
		return verdict;
	make_nat_flow(&entry, claim, &claim->reply, flags);
	if (bpf_map_update_elem(&nat_flows, &claim->flow, &entry, BPF_ANY)) {
		bpf_map_delete_elem(&nat_flows, &claim->reply);
		return DROP_NAT_FULL;
	}
	count_nat(NAT_CLAIMED);
	return VERDICT_CONTINUE;
}

/* Where the client's packets come from now is where the answers go. The entry of the answers is put
 * back if it is gone: a sweep may have been broken off between the two. */
static __noinline int refresh_reply(const struct nat_claim *claim)
{
	struct nat_flow *reply = bpf_map_lookup_elem(&nat_flows, &claim->reply);
	struct nat_flow entry;

	if (!reply) {
		make_nat_flow(&entry, claim, &claim->flow, NAT_REPLY);
		return bpf_map_update_elem(&nat_flows, &claim->reply, &entry, BPF_NOEXIST);
	}
	reply->client_ifindex = claim->client_ifindex;
	copy_way(reply, claim);
	return 0;
}
