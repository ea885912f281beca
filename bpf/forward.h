/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Sends a packet on its way: to the next hop as it is (l2), in a tunnel (tunnel.h), translated
 * (translate.h), or back where it came from (echo). Knows headers and checksums; knows no flow and no ring. Every frame
 * that leaves here has right checksums if it came with right ones, and wrong ones if not: sums are
 * carried, not made.
 */
#pragma once

#include "answers.h"
#include "mss.h"
#include "too_big.h"
#include "translate.h"
#include "vlan.h"

enum { ECHO_TTL = 64 };

static __always_inline void set_ttl(struct iphdr *ip, __u8 ttl)
{
	half_word *ttl_and_protocol = (half_word *)&ip->ttl;
	__u16 before = *ttl_and_protocol;

	ip->ttl = ttl;
	ip->check = replace_in_sum(ip->check, before, *ttl_and_protocol);
}

/* Asks for the frame to leave by this interface. On veth, and for another interface, that is a
 * redirect. */
static __always_inline int leave_by(struct xdp_md *ctx, __u32 ifindex)
{
	if (!transmit_by_redirect && ifindex == ctx->ingress_ifindex)
		return XDP_TX;
	return bpf_redirect_map(&devices, ifindex, 0);
}

/* Back where the packet came from. */
static __always_inline int answer_by(struct xdp_md *ctx)
{
	return leave_by(ctx, ctx->ingress_ifindex) == XDP_REDIRECT ? XDP_REDIRECT : XDP_TX;
}

static __always_inline bool count_hop(struct xdp_md *ctx, const struct packet *packet)
{
	if (packet->family == 4) {
		struct iphdr *ip = ip_header(ctx, packet);

		if (!is_there(ctx, ip, sizeof(*ip)))
			return false;
		set_ttl(ip, packet->ttl - 1);
	} else {
		struct ipv6hdr *ip = ip_header(ctx, packet);

		if (!is_there(ctx, ip, sizeof(*ip)))
			return false;
		ip->hop_limit = packet->ttl - 1;
	}
	return true;
}

static __always_inline bool write_macs(struct xdp_md *ctx, const struct next_hop *hop)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;

	if (data + sizeof(struct ethhdr) > end)
		return false;
	*(double_word *)data = *(const double_word *)hop;
	*(word *)(data + 8) = *(const word *)((const void *)hop + 8);
	return true;
}

/* `length` is that of the packet as it would leave. */
static __always_inline enum verdict refuse_too_big(struct xdp_md *ctx, const struct packet *packet,
						   struct choice *choice, __u32 mtu, __u32 length)
{
	__u32 outer = length - packet->ip_length;
	enum verdict verdict = DROP_TOO_BIG;

	if (feature_icmp_errors)
		verdict = tell_too_big(ctx, packet, mtu > outer ? mtu - outer : 0);
	if (verdict == TX_TOO_BIG)
		choice->action = answer_by(ctx);
	return verdict;
}

static __always_inline bool is_nat(const struct destination *destination)
{
	return feature_nat && (destination->forwarding == FORWARDING_NAT ||
			       destination->forwarding == FORWARDING_FULLNAT);
}

/* The link-layer header of the packet as it came: whoever sent it is the way back to the client. */
static __always_inline bool note_client(struct xdp_md *ctx, const struct packet *packet,
					struct nat_claim *claim)
{
	const void *ethernet = (void *)(long)ctx->data;

	/* As far as tags may reach, and no further than the IP header does. */
	if (!is_there(ctx, ethernet, sizeof(struct ethhdr) + VLAN_TAGS_MAX * VLAN_TAG_BYTES))
		return false;
	claim->client_ifindex = ctx->ingress_ifindex;
	claim->client_tag_bytes = packet->tag_bytes;
	((word *)claim->client_tags)[0] = packet->tag_bytes ? ((const word *)ethernet)[3] : 0;
	((word *)claim->client_tags)[1] =
		packet->tag_bytes > VLAN_TAG_BYTES ? ((const word *)ethernet)[4] : 0;
	for (int i = 0; i < 3; i++) {
		((half_word *)claim->client_macs)[i] = ((const half_word *)ethernet)[i + 3];
		((half_word *)claim->client_macs)[i + 3] = ((const half_word *)ethernet)[i];
	}
	return true;
}

/* A flow that is there already. A connection that opens again begins anew, with what it has. */
static __always_inline void touch_nat(const struct packet *packet, const struct choice *choice,
				      const struct nat_claim *claim)
{
	struct nat_flow *held = choice->nat;
	__u8 flags = packet->opens ? 0 : held->flags | packet->closes | NAT_ANSWERED;

	if (packet->role == ROLE_ICMP_ERROR)
		return;
	if (feature_pick && !(held->flags & NAT_CLOSES) != !(flags & NAT_CLOSES))
		count_load(choice->service, choice->id, flags & NAT_CLOSES ? -1 : 1);
	if (held->flags != flags)
		held->flags = flags;
	if (choice->effect != EFFECT_TOUCH)
		return;
	held->last_seen_ns = choice->now_ns;
	refresh_reply(claim);
}

/* Finds the flow's translation, or begins one, and gives the packet its new addresses and ports. */
static __always_inline enum verdict enter_nat(struct xdp_md *ctx, const struct packet *packet,
					      const struct choice *choice)
{
	const struct destination *destination = choice->destination;
	__u32 only = 0;
	struct nat_claim *claim = bpf_map_lookup_elem(&nat_claims, &only);
	enum verdict verdict;

	if (!claim || !note_client(ctx, packet, claim))
		return DROP_NO_ROOM;
	copy_flow_key(&claim->flow, &packet->flow);
	claim->now_ns = choice->now_ns;
	claim->destination = choice->id;
	claim->service = choice->service;
	if (choice->effect == EFFECT_CLAIM) {
		claim->now_ns = bpf_ktime_get_ns(); /* what its first answer is measured from (answers.h) */
		claim->hash = choice->flow_hash;
		claim->generation = choice->generation;
		/* A backend takes nothing from its own address, and would answer itself. */
		claim->keeps_source = destination->forwarding == FORWARDING_NAT &&
			!is_same_address(packet->flow.source, destination->address);
		copy_flow_key(&claim->reply, &packet->flow);
		copy_address(claim->reply.source, destination->address);
		claim->reply.source_port = destination->port ? destination->port : packet->flow.service.port;
		copy_address(claim->own_address, destination->tunnel_source);
		verdict = claim_nat(packet->closes | (packet->opens ? 0 : NAT_ANSWERED));
		if (verdict != VERDICT_CONTINUE)
			return verdict;
		if (feature_pick && !packet->closes)
			count_load(choice->service, choice->id, 1);
	} else if (choice->nat) {
		claim->generation = choice->nat->generation;
		copy_flow_key(&claim->reply, &choice->nat->other);
		touch_nat(packet, choice, claim);
	} else {
		return DROP_NO_BACKEND;
	}
	return translate(ctx, packet, &claim->reply) ? VERDICT_CONTINUE : DROP_NO_ROOM;
}

/* Nothing is written to the frame before it is sure to leave. */
static __always_inline enum verdict forward(struct xdp_md *ctx, const struct packet *packet,
					    struct choice *choice)
{
	const struct destination *destination = choice->destination;
	bool tunnel = is_tunnel(destination);
	bool ipv4_outside = tunnel && is_ipv4_outside(destination);
	__u32 active = *(volatile __u32 *)&destination->next_hop_active & 1;
	const struct next_hop *hop = &destination->next_hops[active];
	__u32 length = packet->ip_length;

	if (!tunnel && !is_nat(destination) &&
	    !(feature_l2 && destination->forwarding == FORWARDING_L2))
		return DROP_NO_BACKEND;
	if (!(hop->flags & NEXT_HOP_RESOLVED))
		return hop->flags & NEXT_HOP_LOCAL ? PASS_LOCAL : DROP_NO_NEIGHBOUR;
	choice->action = leave_by(ctx, hop->ifindex);
	if (choice->action != XDP_TX && choice->action != XDP_REDIRECT)
		return DROP_NO_NEIGHBOUR;
	/* A hop is counted where there is one: what is for this host has arrived, and passed above. */
	if (packet->ttl <= 1)
		return DROP_TTL_EXPIRED;

	if (tunnel)
		length += tunnel_bytes(destination) +
			  (feature_second_chance ? (choice->named_words >> NAMED_WORDS_MAX_SHIFT) * 4 : 0);
	if (hop->mtu && length > hop->mtu)
		return refuse_too_big(ctx, packet, choice, hop->mtu, length);
	if (tunnel && length > IP_LENGTH_MAX + (ipv4_outside ? 0 : sizeof(struct ipv6hdr)))
		return DROP_NO_ROOM;
	if (is_nat(destination)) {
		enum verdict verdict = enter_nat(ctx, packet, choice);

		if (verdict != VERDICT_CONTINUE)
			return verdict;
	}
	if (feature_mss_clamp && choice->mss_max && packet->opens && packet->role == ROLE_PACKET)
		clamp_mss(ctx, packet, choice->mss_max);
	if (!count_hop(ctx, packet))
		return DROP_NO_ROOM;
	if (tunnel && encapsulate(ctx, packet, choice, ipv4_outside) != VERDICT_CONTINUE)
		return DROP_NO_ROOM;
	if (hop->vlan && retag(ctx, packet, hop->vlan) != VERDICT_CONTINUE)
		return DROP_NO_ROOM;
	if (!write_macs(ctx, hop))
		return DROP_NO_ROOM;
	return TX_FORWARDED;
}

/* Largest IP packet that the interface carries; 0: not known. */
static __always_inline __u32 mtu_of(struct xdp_md *ctx, __u32 ifindex, __u32 length)
{
	__u32 mtu = length;

	return bpf_check_mtu(ctx, ifindex, &mtu, 0, 0) == BPF_MTU_CHK_RET_FRAG_NEEDED ? mtu : 0;
}

/* The last hop that brought the client's packets is the way back to it, in the VLAN that they are
 * in. */
static __noinline bool turn_to_client(struct xdp_md *ctx, const struct packet *packet,
				      const struct nat_flow *held)
{
	const word tags[2] = {
		((const word *)held->client_tags)[0], ((const word *)held->client_tags)[1],
	};
	void *frame = put_tags(ctx, packet, tags, held->client_tag_bytes & TAG_BYTES_MASK);

	if (!frame)
		return false;
	copy_macs(frame, held->client_macs);
	return true;
}

static __always_inline void touch_reply(const struct packet *packet, struct nat_flow *held)
{
	__u8 flags = held->flags | packet->closes | NAT_ANSWERED;
	__u64 now_ns = bpf_ktime_get_coarse_ns();

	if (held->flags == NAT_REPLY)
		count_answer(packet, held);
	/* Of a connection that began anew. */
	if (packet->answers)
		flags = NAT_REPLY | NAT_ANSWERED;
	if (held->flags != flags)
		held->flags = flags;
	if (held->last_seen_ns + TOUCH_INTERVAL_NS < now_ns)
		held->last_seen_ns = now_ns;
}

/* What a backend announces limits what its client sends, and that comes this way too. */
static __always_inline void clamp_answer(struct xdp_md *ctx, const struct packet *packet,
					 __u32 service)
{
	const struct service_version *version = active_version(service);

	if (version && version->mss_max)
		clamp_mss(ctx, packet, version->mss_max);
}

/* Sends what a backend answers to the client, from the address that the client knows. */
static __noinline int reply(struct xdp_md *ctx, const struct packet *packet, struct choice *choice,
			    enum verdict verdict)
{
	struct nat_flow *held = choice->nat;
	struct flow_key to __attribute__((aligned(8)));
	__u32 mtu;

	choice->action = leave_by(ctx, held->client_ifindex);
	if (choice->action != XDP_TX && choice->action != XDP_REDIRECT)
		return DROP_NO_NEIGHBOUR;
	mtu = mtu_of(ctx, held->client_ifindex, packet->ip_length);
	if (mtu)
		return refuse_too_big(ctx, packet, choice, mtu, packet->ip_length);
	if (feature_mss_clamp && packet->answers && packet->role == ROLE_PACKET)
		clamp_answer(ctx, packet, held->service);
	copy_flow_key(&to, &held->other);
	if (!translate(ctx, packet, &to) || !count_hop(ctx, packet) ||
	    !turn_to_client(ctx, packet, held))
		return DROP_NO_ROOM;
	if (verdict == TX_REPLY)
		touch_reply(packet, held);
	if (packet->role == ROLE_FIRST_FRAGMENT)
		remember_ports(packet);
	return verdict;
}

static __always_inline void swap_words(void *a, void *b)
{
	word kept = *(word *)a;

	*(word *)a = *(word *)b;
	*(word *)b = kept;
}

static __always_inline void swap_macs(void *data)
{
	half_word *half = data, kept;

	for (int i = 0; i < 3; i++) {
		kept = half[i];
		half[i] = half[i + 3];
		half[i + 3] = kept;
	}
}

/* The type goes from request to reply; code is 0 in both. */
static __always_inline void turn_echo(void *icmp, __u8 reply)
{
	half_word *type_and_code = icmp, *sum = icmp + 2, before = *type_and_code;

	*(__u8 *)icmp = reply;
	*sum = replace_in_sum(*sum, before, *type_and_code);
}

static __always_inline void turn_ipv4_echo(struct iphdr *ip)
{
	swap_words(&ip->saddr, &ip->daddr);
	set_ttl(ip, ECHO_TTL);
	turn_echo(ip + 1, ECHO_REPLY);
}

static __always_inline void turn_ipv6_echo(struct ipv6hdr *ip)
{
	for (int i = 0; i < 4; i++)
		swap_words((word *)&ip->saddr + i, (word *)&ip->daddr + i);
	ip->hop_limit = ECHO_TTL;
	turn_echo(ip + 1, ECHO_REPLY_V6);
}

/* Turns an echo request (RFC 792; RFC 4443, 4.1) into its reply, where it lies. Swapped addresses
 * leave the sums as they are; the type and, in IPv4, the time to live change them. */
static __noinline int answer_echo(struct xdp_md *ctx, const struct packet *packet, __u8 *action)
{
	void *data = (void *)(long)ctx->data;
	void *ip = ip_header(ctx, packet);

	if (!is_there(ctx, data, sizeof(struct ethhdr)))
		return PASS_TRUNCATED;
	if (packet->family == 4) {
		if (!is_there(ctx, ip, sizeof(struct iphdr) + ICMP_HEADER_BYTES))
			return PASS_TRUNCATED;
		turn_ipv4_echo(ip);
	} else {
		if (!is_there(ctx, ip, sizeof(struct ipv6hdr) + ICMP_HEADER_BYTES))
			return PASS_TRUNCATED;
		turn_ipv6_echo(ip);
	}
	swap_macs(data);
	*action = answer_by(ctx);
	return TX_ECHO_REPLY;
}
