/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What a frame is: Ethernet, up to two VLAN tags, IPv4 or IPv6, and the first bytes of TCP, UDP or
 * ICMP. Knows wire formats; knows no service and no map, so it can only pass a packet or describe
 * it. parsePacket() in src/model/packet.ts is its twin and is written from the same RFCs, not from
 * this code.
 */
#pragma once

#include "headers.h"

struct packet {
	struct flow_key flow __attribute__((aligned(8)));
	__u32 frame_length;     /* with everything the driver gave us, padding included */
	__u32 tag_bytes;        /* 0, 4 or 8 of VLAN tags */
	__u32 ip_length;        /* as the IP header says, itself included, padding not */
	__u8 kind;              /* enum packet_kind */
	__u8 family;            /* 4 or 6 */
	__u8 ttl;
	__u8 plain;             /* to one host's MAC; no IPv4 options, IPv6 extensions or fragments */
	__u8 opens;             /* a TCP SYN without ACK */
	__u8 role;              /* enum packet_role; means nothing where there are no ports */
	__u16 transport;        /* where its header begins, from the beginning of the frame; 0: not reached */
	__be32 identification;  /* of a fragment */
	__u16 quoted;           /* of an ICMP error: where the quoted ports are */
	__u8 closes;            /* a TCP FIN or RST: those bits of its flags */
	__u8 answers;           /* a TCP SYN with ACK */
	__u8 acknowledges;      /* TCP with ACK */
	__u8 pad[3];
};

/* Where the IP header begins. The mask changes nothing: it is a bound for the verifier, which
 * forgets. */
static __always_inline __u32 ip_offset(const struct packet *packet)
{
	return sizeof(struct ethhdr) + (packet->tag_bytes & TAG_BYTES_MASK);
}

static __always_inline bool is_vlan(__be16 protocol)
{
	return protocol == bpf_htons(ETH_P_8021Q) || protocol == bpf_htons(ETH_P_8021AD);
}

/* Whether an answer to this source would reach one host, and another than this one (RFC 1122,
 * 3.2.2; RFC 4443, 2.4). */
static __always_inline bool is_answerable(const struct packet *packet)
{
	const word *source = (const word *)packet->flow.source;
	const word *here = (const word *)packet->flow.service.address;
	__u8 first = packet->flow.source[packet->family == 4 ? 12 : 0];

	if (source[0] == here[0] && source[1] == here[1] && source[2] == here[2] && source[3] == here[3])
		return false;
	if (packet->family == 4)
		return first != 0 && first != 127 && first < 224;
	if (!(source[0] | source[1] | source[2]) && bpf_ntohl(source[3]) <= 1)
		return false;
	return first != 0xff;
}

/* Takes over the flow of a packet that an ICMP error quotes, if the error's own destination had
 * sent it. Neither the checksum nor the quoted one is verified: the backend does that for its own. */
static __noinline int parse_quote(struct xdp_md *ctx, struct packet *packet, __u32 here)
{
	const word *own = (const word *)packet->flow.service.address;
	struct quote quote = {
		.walk = { .at = here, .stop = ip_offset(packet) + packet->ip_length },
		.family = packet->family,
	};
	const word *source = (const word *)quote.source;

	if (read_quote(ctx, &quote) || source[0] != own[0] || source[1] != own[1] ||
	    source[2] != own[2] || source[3] != own[3])
		return 0;
	if (quote.walk.next == IPPROTO_TCP || quote.walk.next == IPPROTO_UDP) {
		packet->flow.service.port = quote.source_port;
		packet->flow.source_port = quote.destination_port;
	} else if (!is_tunnel_protocol(quote.walk.next)) {
		return 0;
	}
	copy_address(packet->flow.source, quote.destination);
	packet->flow.service.protocol = quote.walk.next;
	packet->kind = KIND_FLOW;
	packet->role = ROLE_ICMP_ERROR;
	packet->quoted = quote.walk.at & OFFSET_MASK;
	return 0;
}

/* TCP, UDP or ICMP: its kind, its ports, whether it opens a connection. It begins at `here`. */
static __always_inline void parse_transport(struct xdp_md *ctx, struct packet *packet, __u32 here,
					    __u8 protocol)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 stop = ip_offset(packet) + packet->ip_length;
	__u8 icmp = packet->family == 4 ? IPPROTO_ICMP : IPPROTO_ICMPV6;
	__u8 echo = packet->family == 4 ? ECHO_REQUEST : ECHO_REQUEST_V6;
	__u32 needed = protocol == IPPROTO_TCP ? TCP_HEADER_BYTES : UDP_HEADER_BYTES;
	__u8 *bytes = data + here;

	packet->flow.service.protocol = protocol;
	packet->transport = here;
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != icmp) {
		packet->kind = KIND_OTHER_PROTOCOL;
		return;
	}
	packet->kind = KIND_TRUNCATED;
	if (here + needed > stop || bytes + UDP_HEADER_BYTES > (__u8 *)end)
		return;
	if (protocol == icmp) {
		packet->kind = KIND_ICMP;
		if (is_error(packet->family, bytes[0]) && packet->role == ROLE_PACKET)
			parse_quote(ctx, packet, here + ICMP_HEADER_BYTES);
		else if (packet->plain && bytes[0] == echo && bytes[1] == 0 && is_answerable(packet))
			packet->kind = KIND_ECHO_REQUEST;
		return;
	}
	if (protocol == IPPROTO_TCP) {
		if (bytes + TCP_HEADER_BYTES > (__u8 *)end)
			return;
		packet->opens = (bytes[TCP_FLAGS_OFFSET] & (TCP_SYN | TCP_ACK)) == TCP_SYN;
		packet->answers = (bytes[TCP_FLAGS_OFFSET] & (TCP_SYN | TCP_ACK)) == (TCP_SYN | TCP_ACK);
		packet->closes = bytes[TCP_FLAGS_OFFSET] & (TCP_FIN | TCP_RST);
		packet->acknowledges = bytes[TCP_FLAGS_OFFSET] & TCP_ACK;
	}
	packet->flow.source_port = ((__be16 *)bytes)[0];
	packet->flow.service.port = ((__be16 *)bytes)[1];
	packet->kind = KIND_FLOW;
}

static __always_inline enum verdict parse_ipv4(struct xdp_md *ctx, struct packet *packet)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct iphdr *ip = data + ip_offset(packet);
	__u32 header_length;
	__u16 fragment;

	if ((void *)(ip + 1) > end)
		return PASS_MALFORMED;
	header_length = ip->ihl * 4;
	packet->ip_length = bpf_ntohs(ip->tot_len);
	if (ip->version != 4 || header_length < sizeof(*ip) || (void *)ip + header_length > end ||
	    packet->ip_length < header_length ||
	    ip_offset(packet) + packet->ip_length > packet->frame_length)
		return PASS_MALFORMED;

	packet->family = 4;
	packet->ttl = ip->ttl;
	map_ipv4(packet->flow.source, ip->saddr);
	map_ipv4(packet->flow.service.address, ip->daddr);
	fragment = bpf_ntohs(ip->frag_off);
	packet->role = fragment >> FRAGMENT_MORE_SHIFT & ROLE_FIRST_FRAGMENT;
	if (fragment & (FRAGMENT_OFFSET | FRAGMENT_MORE)) {
		packet->plain = false;
		packet->identification = ip->id;
		packet->flow.service.protocol = ip->protocol;
		packet->kind = KIND_LATER_FRAGMENT;
		if (fragment & FRAGMENT_OFFSET)
			return VERDICT_CONTINUE;
	}
	if (header_length != sizeof(*ip))
		packet->plain = false;
	parse_transport(ctx, packet, ip_offset(packet) + header_length, ip->protocol);
	return VERDICT_CONTINUE;
}

/* Returns the transport protocol behind the extension headers, and where that begins; -1, and the
 * packet has its kind: there is no getting there. */
static __always_inline int pass_extensions(struct xdp_md *ctx, struct packet *packet, __u32 *here,
					   __u8 next)
{
	struct walk walk = {
		.at = *here, .stop = ip_offset(packet) + packet->ip_length, .next = next,
	};

	packet->plain = false;
	packet->flow.service.protocol = 0;
	skip_extensions(ctx, &walk);
	packet->kind = walk.kind;
	packet->role = walk.role;
	packet->identification = walk.identification;
	*here = walk.at & OFFSET_MASK;
	return walk.kind == KIND_FLOW ? walk.next : -1;
}

static __always_inline enum verdict parse_ipv6(struct xdp_md *ctx, struct packet *packet)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ipv6hdr *ip = data + ip_offset(packet);
	__u32 here = ip_offset(packet) + sizeof(*ip);
	int protocol;

	if ((void *)(ip + 1) > end)
		return PASS_MALFORMED;
	packet->ip_length = sizeof(*ip) + bpf_ntohs(ip->payload_len);
	if (ip->version != 6 || ip_offset(packet) + packet->ip_length > packet->frame_length)
		return PASS_MALFORMED;
	/* Mapped addresses are how IPv4 is written in our keys: from the wire they would be a disguise. */
	if (is_ipv4_mapped(&ip->saddr) || is_ipv4_mapped(&ip->daddr))
		return PASS_MALFORMED;

	packet->family = 6;
	packet->ttl = ip->hop_limit;
	copy_address(packet->flow.source, &ip->saddr);
	copy_address(packet->flow.service.address, &ip->daddr);
	protocol = ip->nexthdr;
	if (protocol != IPPROTO_TCP && protocol != IPPROTO_UDP && protocol != IPPROTO_ICMPV6)
		protocol = pass_extensions(ctx, packet, &here, protocol);
	if (protocol >= 0)
		parse_transport(ctx, packet, here, protocol);
	return VERDICT_CONTINUE;
}

static __always_inline enum verdict parse_packet(struct xdp_md *ctx, struct packet *packet)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	struct ethhdr *ethernet = data;
	__be16 *protocol = data + offsetof(struct ethhdr, h_proto);

	/* The linear part may be less than the frame: this program takes frames in fragments. */
	packet->frame_length = bpf_xdp_get_buff_len(ctx);
	if ((void *)(ethernet + 1) > end)
		return PASS_NOT_IP;
	packet->plain = !(ethernet->h_dest[0] & 1);
	/* Zeros, and a number that means nothing yet; the verifier knows neither. With constants it
	 * would try everything behind once for each that may be here. */
	packet->opens = packet->frame_length >> FRAME_LENGTH_BITS;
	packet->role = packet->frame_length >> FRAME_LENGTH_BITS;
	packet->identification = packet->frame_length;
	packet->transport = packet->frame_length >> FRAME_LENGTH_BITS;
	packet->quoted = packet->frame_length >> FRAME_LENGTH_BITS;
	packet->closes = packet->frame_length >> FRAME_LENGTH_BITS;
	packet->answers = packet->frame_length >> FRAME_LENGTH_BITS;
	packet->acknowledges = packet->frame_length >> FRAME_LENGTH_BITS;
	for (int i = 0; i < 3; i++)
		packet->pad[i] = 0;
	packet->flow.service.pad = 0;
	packet->flow.service.port = 0;
	packet->flow.source_port = 0;
	packet->flow.pad[0] = 0;
	packet->flow.pad[1] = 0;

	packet->tag_bytes = 0;
	for (int tag = 0; tag < VLAN_TAGS_MAX && is_vlan(*protocol); tag++) {
		packet->tag_bytes += VLAN_TAG_BYTES;
		protocol += VLAN_TAG_BYTES / sizeof(*protocol);
		if ((void *)(protocol + 1) > end)
			return PASS_NOT_IP;
	}
	if (*protocol == bpf_htons(ETH_P_IP))
		return parse_ipv4(ctx, packet);
	if (*protocol == bpf_htons(ETH_P_IPV6))
		return parse_ipv6(ctx, packet);
	return PASS_NOT_IP;
}

/* Where the IP header begins. Whoever looks there asks `is_there` first: the verifier has forgotten
 * what parsing found out. */
static __always_inline void *ip_header(struct xdp_md *ctx, const struct packet *packet)
{
	void *shifted = (void *)(long)ctx->data + (packet->tag_bytes & TAG_BYTES_MASK);

	/* As it stands: a constant added to it would hide the bound that the verifier must see. */
	asm volatile("" : "+r"(shifted));
	return shifted + sizeof(struct ethhdr);
}

/* Bytes at an offset that the verifier does not know, or NULL. */
static __always_inline void *bytes_at(struct xdp_md *ctx, __u32 offset, __u32 length)
{
	void *bytes = (void *)(long)ctx->data + (offset & OFFSET_MASK);

	/* As it stands: see ip_header. */
	asm volatile("" : "+r"(bytes));
	return bytes + length <= (void *)(long)ctx->data_end ? bytes : NULL;
}

static __always_inline bool is_there(struct xdp_md *ctx, const void *bytes, __u32 length)
{
	return bytes + length <= (void *)(long)ctx->data_end;
}
