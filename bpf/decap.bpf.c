/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * For backends: takes the outer headers off tunnel packets that end on this host and whose inner
 * destination is a virtual address, so that a kernel without modules for tunnels can serve behind
 * `forwarding: ipip`, `gue` and `gre`. Knows the forms that tunnel.h writes, and GRE keys and private data in GUE, which it
 * skips unless they name backends that the flow may be with (second_chance.h); never drops: what it does not
 * know goes on to the kernel as it came.
 */
#include "second_chance.h"

/* Accept only the balancers in decap_sources. Whoever can reach a backend could else go round the
 * policies of the balancers by wrapping packets himself. */
const volatile bool decap_checks_source = false;
/* UDP destination port of GUE, in network order. */
const volatile __be16 decap_gue_port = bpf_htons(6080);

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address_prefix); /* of virtual addresses, as inner destinations */
	__type(value, __u32);           /* flags; none yet */
	__uint(max_entries, 1024);
} decap_addresses SEC(".maps");

/* A host may route tunnels for others: those are not its to open. Hosts that serve have many
 * addresses, and what is not there takes no memory. */
struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address_prefix); /* of this host's addresses, as outer destinations */
	__type(value, __u32);           /* flags; none yet */
	__uint(max_entries, 16384);
} decap_local SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, struct address_prefix); /* of outer sources */
	__type(value, __u32);           /* flags; none yet */
	__uint(max_entries, 1024);
} decap_sources SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);             /* enum decap_verdict */
	__type(value, struct verdict_count);
	__uint(max_entries, DECAP_VERDICTS);
} decap_counts SEC(".maps");

enum { ECN_MASK = 3, ECN_CONGESTED = 3, ECN_INCAPABLE = 0 };
enum { GRE_HEADER_BYTES = 4 };
/* Of the first byte of a GUE header: version, control, length of what follows in words. */
enum { GUE_HEADER_BYTES = 4, GUE_VERSION_SHIFT = 6, GUE_CONTROL = 0x20, GUE_WORDS_MASK = 0x1f };
static __always_inline bool is_inner(__u8 protocol)
{
	return protocol == IPPROTO_IPIP || protocol == IPPROTO_IPV6;
}

static __always_inline bool is_tunnel(__u8 protocol)
{
	return is_inner(protocol) || protocol == IPPROTO_GRE || protocol == IPPROTO_UDP;
}

/* DECAP_PASS_STRIPPED stands for "go on" until the last step. */
static __always_inline enum decap_verdict read_outer_ipv4(struct tunnel *tunnel, struct iphdr *ip,
							  void *end)
{
	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl != 5 || !is_tunnel(ip->protocol) ||
	    ip->frag_off & bpf_htons(FRAGMENT_MORE | FRAGMENT_OFFSET))
		return DECAP_PASS_NOT_TUNNEL;
	tunnel->outer_length = sizeof(*ip);
	tunnel->total = bpf_ntohs(ip->tot_len);
	tunnel->room = tunnel->total - sizeof(*ip);
	tunnel->protocol = ip->protocol;
	tunnel->ecn = ip->tos & ECN_MASK;
	map_ipv4(tunnel->source, ip->saddr);
	map_ipv4(tunnel->local, ip->daddr);
	return bpf_ntohs(ip->tot_len) < sizeof(*ip) ? DECAP_PASS_MALFORMED : DECAP_PASS_STRIPPED;
}

static __always_inline enum decap_verdict read_outer_ipv6(struct tunnel *tunnel, struct ipv6hdr *ip,
							  void *end)
{
	if ((void *)(ip + 1) > end || ip->version != 6 || !is_tunnel(ip->nexthdr))
		return DECAP_PASS_NOT_TUNNEL;
	tunnel->outer_length = sizeof(*ip);
	tunnel->room = bpf_ntohs(ip->payload_len);
	tunnel->total = sizeof(*ip) + tunnel->room;
	tunnel->protocol = ip->nexthdr;
	tunnel->ecn = bpf_ntohl(*(word *)ip) >> 20 & ECN_MASK;
	copy_address(tunnel->source, &ip->saddr);
	copy_address(tunnel->local, &ip->daddr);
	/* Mapped addresses are how IPv4 is written in our keys: see parse_ipv6 in packet.h. */
	return is_ipv4_mapped(tunnel->source) || is_ipv4_mapped(tunnel->local) ? DECAP_PASS_MALFORMED
									       : DECAP_PASS_STRIPPED;
}

static __always_inline enum decap_verdict read_outer(struct tunnel *tunnel, void *data, void *end)
{
	__be16 *protocol = data + offsetof(struct ethhdr, h_proto);

	if ((void *)(protocol + 1) > end)
		return DECAP_PASS_NOT_TUNNEL;
	tunnel->offset = sizeof(struct ethhdr);
	for (int tag = 0; tag < VLAN_TAGS_MAX && is_vlan(*protocol); tag++) {
		tunnel->offset += VLAN_TAG_BYTES;
		protocol += VLAN_TAG_BYTES / sizeof(*protocol);
		if ((void *)(protocol + 1) > end)
			return DECAP_PASS_NOT_TUNNEL;
	}
	if (*protocol == bpf_htons(ETH_P_IP))
		return read_outer_ipv4(tunnel, (void *)(protocol + 1), end);
	if (*protocol == bpf_htons(ETH_P_IPV6))
		return read_outer_ipv6(tunnel, (void *)(protocol + 1), end);
	return DECAP_PASS_NOT_TUNNEL;
}

/* Notes where the balancer may have named alternates: `bytes` on from where the next header begins. */
static __always_inline void note_field(struct tunnel *tunnel, __u32 bytes, __u8 words, bool is_key)
{
	tunnel->field = (tunnel->offset + tunnel->outer_length + bytes) & OUTER_MASK;
	tunnel->field_words = words;
	tunnel->is_key = is_key;
}

/* Takes `bytes` of what is left of the outer packet for a header of its own. */
static __always_inline bool take(struct tunnel *tunnel, __u32 bytes)
{
	if (tunnel->room < bytes)
		return false;
	tunnel->outer_length += bytes;
	tunnel->room -= bytes;
	return true;
}

/* RFC 2784, and the key of RFC 2890. */
static __always_inline enum decap_verdict read_gre(struct tunnel *tunnel, void *gre, void *end)
{
	half_word *words = gre;
	__u16 flags;

	if (gre + GRE_HEADER_BYTES > end)
		return DECAP_PASS_NOT_TUNNEL;
	flags = bpf_ntohs(words[0]);
	if (flags & ~GRE_KEY)
		return DECAP_PASS_NOT_TUNNEL;
	if (words[1] == bpf_htons(ETH_P_IP))
		tunnel->protocol = IPPROTO_IPIP;
	else if (words[1] == bpf_htons(ETH_P_IPV6))
		tunnel->protocol = IPPROTO_IPV6;
	else
		return DECAP_PASS_NOT_TUNNEL;
	note_field(tunnel, GRE_HEADER_BYTES, flags & GRE_KEY ? 1 : 0, true);
	return take(tunnel, GRE_HEADER_BYTES + (flags & GRE_KEY ? GRE_KEY_BYTES : 0))
		       ? DECAP_PASS_STRIPPED
		       : DECAP_PASS_MALFORMED;
}

/* Private data has a length alone, and no flag. Flags would announce fields whose meaning is not known
 * here, so a header with any is the kernel's. */
static __always_inline enum decap_verdict read_gue_header(struct tunnel *tunnel, __u8 *gue)
{
	if (gue[0] & GUE_CONTROL || gue[2] || gue[3] || !is_inner(gue[1]))
		return DECAP_PASS_NOT_TUNNEL;
	tunnel->protocol = gue[1];
	note_field(tunnel, GUE_HEADER_BYTES, gue[0] & GUE_WORDS_MASK, false);
	return take(tunnel, GUE_HEADER_BYTES + (gue[0] & GUE_WORDS_MASK) * 4)
		       ? DECAP_PASS_STRIPPED
		       : DECAP_PASS_MALFORMED;
}

/* The checksum is not looked at: the balancers send none (tunnel.h), and the packet inside has its
 * own. */
static __always_inline enum decap_verdict read_gue(struct tunnel *tunnel, void *udp, void *end)
{
	half_word *words = udp;
	__u8 *gue = udp + UDP_HEADER_BYTES;
	__u32 length;

	if (udp + UDP_HEADER_BYTES + GUE_HEADER_BYTES > end || words[1] != decap_gue_port)
		return DECAP_PASS_NOT_TUNNEL;
	length = bpf_ntohs(words[2]);
	if (length < UDP_HEADER_BYTES || length > tunnel->room)
		return DECAP_PASS_MALFORMED;
	tunnel->room = length;
	take(tunnel, UDP_HEADER_BYTES);
	switch (gue[0] >> GUE_VERSION_SHIFT) {
	case 0:
		return read_gue_header(tunnel, gue);
	case 1:
		/* The version of the IP header stands there, and its first bits are 01 in both. */
		tunnel->protocol = gue[0] >> 4 == 4 ? IPPROTO_IPIP : IPPROTO_IPV6;
		return DECAP_PASS_STRIPPED;
	default:
		return DECAP_PASS_NOT_TUNNEL;
	}
}

/* What stands between the outer IP header and the inner one, if anything does. */
static __always_inline enum decap_verdict read_shim(struct tunnel *tunnel, void *data, void *end)
{
	void *shim = data + ((tunnel->offset + tunnel->outer_length) & OUTER_MASK);

	/* As it stands: see ip_header in packet.h. */
	asm volatile("" : "+r"(shim));
	if (tunnel->protocol == IPPROTO_GRE)
		return read_gre(tunnel, shim, end);
	if (tunnel->protocol == IPPROTO_UDP)
		return read_gue(tunnel, shim, end);
	return DECAP_PASS_STRIPPED;
}

/* Whether one of the prefixes holds the address. */
static __always_inline bool is_within(void *prefixes, const __u8 *address)
{
	struct address_prefix key = { .prefix_bits = 128 };

	copy_address(key.address, address);
	return bpf_map_lookup_elem(prefixes, &key);
}

static __always_inline enum decap_verdict read_inner_ipv4(struct tunnel *tunnel, struct iphdr *ip,
							  void *end)
{
	if ((void *)(ip + 1) > end || ip->version != 4 || ip->ihl < 5 ||
	    bpf_ntohs(ip->tot_len) < ip->ihl * 4 || bpf_ntohs(ip->tot_len) > tunnel->room)
		return DECAP_PASS_MALFORMED;
	map_ipv4(tunnel->destination, ip->daddr);
	return is_within(&decap_addresses, tunnel->destination) ? DECAP_PASS_STRIPPED
								: DECAP_PASS_NOT_OURS;
}

static __always_inline enum decap_verdict read_inner_ipv6(struct tunnel *tunnel, struct ipv6hdr *ip,
							  void *end)
{
	if ((void *)(ip + 1) > end || ip->version != 6 ||
	    sizeof(*ip) + bpf_ntohs(ip->payload_len) > tunnel->room || is_ipv4_mapped(&ip->daddr))
		return DECAP_PASS_MALFORMED;
	copy_address(tunnel->destination, &ip->daddr);
	return is_within(&decap_addresses, tunnel->destination) ? DECAP_PASS_STRIPPED
								: DECAP_PASS_NOT_OURS;
}

/* Congestion that a router marked on the outer header is not lost with it (RFC 6040, 4.2). */
static __always_inline void carry_congestion(const struct tunnel *tunnel, void *inner)
{
	if (tunnel->ecn != ECN_CONGESTED)
		return;
	if (tunnel->protocol == IPPROTO_IPIP) {
		struct iphdr *ip = inner;
		half_word *first = inner, before = *first;

		if ((ip->tos & ECN_MASK) == ECN_INCAPABLE)
			return;
		ip->tos |= ECN_CONGESTED;
		ip->check = replace_in_sum(ip->check, before, *first);
	} else {
		__u32 first = bpf_ntohl(*(word *)inner);

		if ((first >> 20 & ECN_MASK) != ECN_INCAPABLE)
			*(word *)inner = bpf_htonl(first | ECN_CONGESTED << 20);
	}
}

/* Moves the link-layer header over the outer IP header, tags included, and gives the type of the
 * inner. */
static __always_inline enum decap_verdict strip(struct xdp_md *ctx, const struct tunnel *tunnel)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	word header[5] = {};
	__u32 tag_bytes = (tunnel->offset - sizeof(struct ethhdr)) & TAG_BYTES_MASK;

	/* The bytes behind an untagged header are read too, and written back nowhere. */
	if (data + sizeof(header) > end)
		return DECAP_PASS_MALFORMED;
	for (int i = 0; i < 5; i++)
		header[i] = ((word *)data)[i];
	if (bpf_xdp_adjust_head(ctx, tunnel->outer_length))
		return DECAP_PASS_MALFORMED;
	data = (void *)(long)ctx->data;
	end = (void *)(long)ctx->data_end;
	if (data + sizeof(header) + sizeof(__be16) > end)
		return DECAP_PASS_MALFORMED;
	for (int i = 0; i < 3; i++)
		((word *)data)[i] = header[i];
	if (tag_bytes)
		((word *)data)[3] = header[3];
	if (tag_bytes == VLAN_TAGS_MAX * VLAN_TAG_BYTES)
		((word *)data)[4] = header[4];
	data += tag_bytes;
	asm volatile("" : "+r"(data));
	if (data + sizeof(struct ethhdr) > end)
		return DECAP_PASS_MALFORMED;
	*(__be16 *)(data + offsetof(struct ethhdr, h_proto)) =
		tunnel->protocol == IPPROTO_IPIP ? bpf_htons(ETH_P_IP) : bpf_htons(ETH_P_IPV6);
	return DECAP_PASS_STRIPPED;
}

static __always_inline enum decap_verdict decapsulate(struct xdp_md *ctx, __u32 frame_length,
						     int *action)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	enum decap_verdict verdict, delivered = DECAP_PASS_STRIPPED;
	struct tunnel tunnel;
	__u32 outer_end;
	void *inner;

	tunnel.field_words = 0;
	verdict = read_outer(&tunnel, data, end);
	if (verdict != DECAP_PASS_STRIPPED)
		return verdict;
	/* As the IP header says: UDP may say less. */
	outer_end = tunnel.offset + tunnel.outer_length + tunnel.room;
	verdict = read_shim(&tunnel, data, end);
	if (verdict != DECAP_PASS_STRIPPED)
		return verdict;
	if (outer_end > frame_length)
		return DECAP_PASS_MALFORMED;
	if (!is_within(&decap_local, tunnel.local))
		return DECAP_PASS_NOT_LOCAL;
	if (decap_checks_source && !is_within(&decap_sources, tunnel.source))
		return DECAP_PASS_SOURCE;
	inner = data + ((tunnel.offset + tunnel.outer_length) & OUTER_MASK);
	verdict = tunnel.protocol == IPPROTO_IPIP ? read_inner_ipv4(&tunnel, inner, end)
						  : read_inner_ipv6(&tunnel, inner, end);
	if (verdict != DECAP_PASS_STRIPPED)
		return verdict;
	/* Only balancers know who else may have a flow: a stranger's word would lead packets anywhere. */
	if (decap_second_chance && tunnel.field_words && is_within(&decap_sources, tunnel.source))
		delivered = choose_owner(ctx, &tunnel, action);
	if (delivered == DECAP_TX_ALTERNATE || delivered == DECAP_PASS_ALTERNATE)
		return delivered;
	carry_congestion(&tunnel, inner);
	verdict = strip(ctx, &tunnel);
	return verdict == DECAP_PASS_STRIPPED ? delivered : verdict;
}

SEC("xdp.frags")
int decap(struct xdp_md *ctx)
{
	__u32 frame_length = bpf_xdp_get_buff_len(ctx);
	int action = XDP_PASS;
	__u32 verdict = decapsulate(ctx, frame_length, &action);
	struct verdict_count *count = bpf_map_lookup_elem(&decap_counts, &verdict);

	if (count) {
		count->packets += 1;
		count->bytes += frame_length;
	}
	return action;
}

char LICENSE[] SEC("license") = "GPL";
