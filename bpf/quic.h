/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Whom a QUIC packet names: from its destination connection ID (RFC 8999, 5) by the encodings of
 * draft-ietf-quic-load-balancers-21 to the id of a destination. Knows the maps of connection IDs
 * and the first bytes of a datagram; decides nothing. src/model/quic_route.ts is its twin.
 */
#pragma once

#include "aes128.h"
#include "maps.h"
#include "packet.h"

/* From the ID's first byte on, a packet of QUIC has at least so many bytes: it ends with a sample of
 * 16 that begins four behind the ID (RFC 9001, 5.4.2). */
enum { CID_WINDOW_BYTES = 20 };
enum { LONG_HEADER = 0x80, LONG_LENGTH_AT = 5, LONG_CID_AT = 6, SHORT_CID_AT = 1 };
enum { CONFIG_SHIFT = 5, ENCODED_LENGTH_MASK = 0x1f, HALF_BYTES_MASK = 15, HALF_BYTES_MAX = 10 };

typedef __u16 __attribute__((may_alias)) cid_half_word;

/* The connection ID as a packet shows it. */
struct seen_cid {
	const __u8 *bytes;      /* CID_WINDOW_BYTES of them */
	__u32 length;           /* as a long header says; 0: a short one does not */
};

/* Where the datagram's payload begins. Looked for again, so that nobody else has to keep it. */
static __always_inline __u32 payload_offset(struct xdp_md *ctx, const struct packet *packet)
{
	void *data = (void *)(long)ctx->data;
	void *end = (void *)(long)ctx->data_end;
	__u32 at = ip_offset(packet);
	struct walk walk = { .stop = at + packet->ip_length };
	void *header = data + at;

	if (packet->family == 4) {
		struct iphdr *ip = header;

		if ((void *)(ip + 1) > end)
			return 0;
		return at + ip->ihl * 4 + UDP_HEADER_BYTES;
	} else {
		struct ipv6hdr *ip = header;

		if ((void *)(ip + 1) > end)
			return 0;
		walk.at = at + sizeof(*ip);
		walk.next = ip->nexthdr;
	}
	if (walk.next != IPPROTO_UDP && skip_extensions(ctx, &walk))
		return 0;
	return (walk.at & OFFSET_MASK) + UDP_HEADER_BYTES;
}

static __always_inline bool see_cid(struct xdp_md *ctx, const struct packet *packet,
				    struct seen_cid *cid)
{
	__u32 stop = ip_offset(packet) + packet->ip_length;
	__u32 at = payload_offset(ctx, packet);
	const __u8 *bytes;

	at &= OFFSET_MASK;
	bytes = (void *)(long)ctx->data + at;
	if (at + SHORT_CID_AT + CID_WINDOW_BYTES > stop ||
	    (void *)(bytes + SHORT_CID_AT + CID_WINDOW_BYTES) > (void *)(long)ctx->data_end)
		return false;
	cid->length = 0;
	cid->bytes = bytes + SHORT_CID_AT;
	if (!(bytes[0] & LONG_HEADER))
		return true;
	if (at + LONG_CID_AT + CID_WINDOW_BYTES > stop ||
	    (void *)(bytes + LONG_CID_AT + CID_WINDOW_BYTES) > (void *)(long)ctx->data_end)
		return false;
	cid->length = bytes[LONG_LENGTH_AT];
	cid->bytes = bytes + LONG_CID_AT;
	/* Said to be none: a length of 0 stands for a short header, and no config has IDs so short. */
	if (!cid->length)
		cid->length = 1;
	return true;
}

/* IDs may be longer than the config: servers can append bytes of their own (5.4). */
static __always_inline bool has_its_length(const struct quic_config *config,
					   const struct seen_cid *cid)
{
	__u32 least = 1 + config->plaintext_bytes;
	__u32 said = 1 + (cid->bytes[0] & ENCODED_LENGTH_MASK);

	if (cid->length && cid->length < least)
		return false;
	if (!config->length_encoded)
		return true;
	return cid->length ? said == cid->length : said >= least;
}

/* Up to ten bytes, the first one lowest. */
struct half {
	__u64 low;
	__u64 high;             /* two bytes */
};

static __always_inline struct half read_half(const __u8 *bytes, const __u64 *mask)
{
	return (struct half){
		.low = *(const double_word *)bytes & mask[0],
		.high = *(const cid_half_word *)(bytes + 8) & mask[1],
	};
}

/* One pass (5.4.2), which is its own inverse. */
static __always_inline void mix(const struct quic_config *config, const struct half *from,
				struct half *to, const __u64 *mask, __u32 pass)
{
	struct aes_block block = { .columns = {
		from->low, from->low >> 32, from->high,
		(__u32)config->plaintext_bytes << 16 | pass << 24,
	} };

	aes_encrypt((const struct aes_schedule *)config->schedule, &block);
	to->low ^= ((__u64)block.columns[1] << 32 | block.columns[0]) & mask[0];
	to->high ^= block.columns[2] & mask[1];
}

/* Three passes where the server ID is in the left half, else four. `id` gets the first 16 bytes. */
static __always_inline void decrypt_by_passes(struct xdp_md *ctx, const struct quic_config *config,
					      const __u8 *hidden, __u64 *id)
{
	__u32 offset = config->right_offset & HALF_BYTES_MASK;
	struct half left = read_half(hidden, config->left_mask);
	const __u8 *rest = hidden + offset;
	struct half right;

	/* The window is longer; the verifier does not see that. */
	if ((void *)(rest + HALF_BYTES_MAX) > (void *)(long)ctx->data_end)
		return;
	right = read_half(rest, config->right_mask);
	mix(config, &right, &left, config->left_mask, 4);
	mix(config, &left, &right, config->right_mask, 3);
	mix(config, &right, &left, config->left_mask, 2);
	id[0] = left.low;
	id[1] = left.high;
	if (config->server_id_bytes <= offset)
		return;
	mix(config, &left, &right, config->right_mask, 1);
	if (offset >= 8) {
		id[1] |= right.low << (offset - 8) * 8;
		return;
	}
	if (offset == 0)
		return;
	id[0] |= right.low << offset * 8;
	id[1] |= right.low >> (8 - offset) * 8 | right.high << offset * 8;
}

static __always_inline void decrypt_block(const struct quic_config *config, __u64 *id)
{
	struct aes_block block = { .columns = { id[0], id[0] >> 32, id[1], id[1] >> 32 } };

	aes_decrypt((const struct aes_schedule *)config->schedule, &block);
	id[0] = (__u64)block.columns[1] << 32 | block.columns[0];
	id[1] = (__u64)block.columns[3] << 32 | block.columns[2];
}

static __always_inline enum quic_outcome read_cid(struct xdp_md *ctx, const struct packet *packet,
						  __u32 service, __u32 *named)
{
	struct quic_config_key config_key = { .service = service };
	union {
		struct quic_server_key key;
		__u64 id[2];    /* server ID and, as its last byte, its length */
	} server;
	const struct quic_config *config;
	const struct destination *destination;
	struct seen_cid cid;
	__u32 *found;

	if (!see_cid(ctx, packet, &cid))
		return QUIC_NO_ID;
	config_key.config = cid.bytes[0] >> CONFIG_SHIFT;
	config = bpf_map_lookup_elem(&quic_configs, &config_key);
	if (!config)
		return QUIC_NO_CONFIG;
	if (!has_its_length(config, &cid))
		return QUIC_NO_ID;
	server.id[0] = *(const double_word *)(cid.bytes + 1);
	server.id[1] = *(const double_word *)(cid.bytes + 9);
	if (config->mode == QUIC_SINGLE_PASS)
		decrypt_block(config, server.id);
	else if (config->mode == QUIC_FOUR_PASS)
		decrypt_by_passes(ctx, config, cid.bytes + 1, server.id);
	server.id[0] &= config->server_mask[0];
	server.id[1] = (server.id[1] & config->server_mask[1]) |
		       (__u64)config->server_id_bytes << 56;
	server.key.service = service;
	found = bpf_map_lookup_elem(&quic_servers, &server.key);
	if (!found)
		return QUIC_NO_SERVER;
	*named = *found;
	destination = bpf_map_lookup_elem(&destinations, named);
	if (!destination || !(destination->flags & DESTINATION_LIVE))
		return QUIC_SERVER_DOWN;
	return QUIC_ROUTED;
}

/* The id of the destination that the packet names and that is alive, or 0: flow and ring decide. Not
 * static: the verifier then checks it once, and what follows once and not again for each way out. */
__noinline int named_by_cid(struct xdp_md *ctx, const struct packet *packet, __u32 service)
{
	__u32 named = 0;
	__u32 outcome;
	__u64 *count;

	if (!packet)
		return 0;
	outcome = read_cid(ctx, packet, service, &named);
	count = bpf_map_lookup_elem(&quic_counts, &outcome);
	if (count)
		*count += 1;
	return outcome == QUIC_ROUTED ? named : 0;
}
