/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What has to hold for every frame, judged from the bytes before and after, by code that shares
 * nothing with the programs (RFC 791, 8200, 1071). Knows wire formats; knows no map and no verdict.
 */
#pragma once

#include "kernel.h"

#include <string.h>

/* The outermost IP header of a frame, behind at most two VLAN tags. */
struct view {
	const __u8 *bytes;      /* the frame */
	__u32 length;
	int family;             /* 4, 6, or 0: none that is whole */
	__u32 at;               /* of the IP header */
	__u32 ip_length;        /* as it says itself */
	__u32 header_length;
	bool mapped;            /* an IPv6 address that only stands for an IPv4 one */
	__u8 destination[16];   /* IPv4 as ::ffff:a.b.c.d */
};

static inline __u16 be16_at(const __u8 *bytes)
{
	return bytes[0] << 8 | bytes[1];
}

static inline bool is_mapped(const __u8 *address)
{
	static const __u8 prefix[12] = { [10] = 0xff, [11] = 0xff };

	return !memcmp(address, prefix, sizeof(prefix));
}

static inline void view_ipv4(struct view *view)
{
	const __u8 *ip = view->bytes + view->at;

	if (view->at + 20 > view->length || ip[0] >> 4 != 4 || (ip[0] & 15) < 5)
		return;
	view->header_length = (ip[0] & 15) * 4;
	view->ip_length = be16_at(ip + 2);
	if (view->ip_length < view->header_length || view->at + view->ip_length > view->length)
		return;
	memset(view->destination + 10, 0xff, 2);
	memcpy(view->destination + 12, ip + 16, 4);
	view->family = 4;
}

static inline void view_ipv6(struct view *view)
{
	const __u8 *ip = view->bytes + view->at;

	if (view->at + 40 > view->length || ip[0] >> 4 != 6)
		return;
	view->header_length = 40;
	view->ip_length = 40 + be16_at(ip + 4);
	if (view->at + view->ip_length > view->length)
		return;
	memcpy(view->destination, ip + 24, 16);
	view->mapped = is_mapped(ip + 8) || is_mapped(ip + 24);
	view->family = 6;
}

static inline struct view view_frame(const __u8 *bytes, __u32 length)
{
	struct view view = { .bytes = bytes, .length = length, .at = 14 };
	__u16 type;

	if (length < 14)
		return view;
	type = be16_at(bytes + 12);
	for (int tag = 0; tag < 2 && (type == 0x8100 || type == 0x88a8); tag++) {
		view.at += 4;
		if (view.at > length)
			return view;
		type = be16_at(bytes + view.at - 2);
	}
	if (type == 0x0800)
		view_ipv4(&view);
	else if (type == 0x86dd)
		view_ipv6(&view);
	return view;
}

/* The sum of big-endian words modulo 65535: what a right checksum makes is 0. */
static inline __u32 residue(const __u8 *bytes, __u32 length)
{
	__u64 total = 0;

	for (__u32 i = 0; i < length; i++)
		total += i % 2 ? bytes[i] : bytes[i] << 8;
	return total % 65535;
}

static inline void expect_same(const struct view *before, const struct view *after, const char *what)
{
	if (before->length != after->length || memcmp(before->bytes, after->bytes, before->length))
		complain("%s, but the frame is not what it was", what);
}

/* The checksum of an IPv4 header is as right, or as wrong, as it was. */
static inline void expect_same_residue(const __u8 *before, const __u8 *after, __u32 length)
{
	if (residue(before, length) != residue(after, length))
		complain("the IPv4 header's checksum is off by another value than before");
}

/* A SYN may ask for smaller segments now: a value of two bytes, and the sum over it. */
enum { CLAMPED_BYTES_MAX = 4 };

/* The packet that came is there, one hop older and otherwise to the byte; what is before it, if
 * anything, are headers of ours, with right checksums. */
static inline void expect_carried(const struct view *before, const struct view *after)
{
	const __u8 *old = before->bytes + before->at, *new;
	__u32 inner = after->at + after->ip_length - before->ip_length;
	__u32 ttl_at = before->family == 4 ? 8 : 7, body = before->header_length, changed = 0;

	if (!before->family || !after->family || after->ip_length < before->ip_length)
		complain("a packet went out as none, or shorter");
	/* A next hop in a VLAN has one tag, and one in none has none, whatever there was. */
	if (before->at > after->at && after->at != 14 &&
	    !(after->at == 18 && be16_at(after->bytes + 12) == 0x8100))
		complain("the VLAN tags did not come along");
	new = after->bytes + inner;
	for (__u32 i = 0; i < before->ip_length; i++) {
		bool sum = before->family == 4 && (i == 10 || i == 11);

		if (sum || new[i] == (__u8)(old[i] - (i == ttl_at)))
			continue;
		changed += 1;
		if (i < body || changed > CLAMPED_BYTES_MAX)
			complain("byte %u of the packet is %02x instead of %02x", i, new[i], old[i]);
	}
	if (changed && residue(old + body, before->ip_length - body) !=
		       residue(new + body, before->ip_length - body))
		complain("the checksum of a SYN is off by another value than before");
	if (before->family == 4)
		expect_same_residue(old, new, before->header_length);
	if (inner != after->at && after->family == 4 &&
	    residue(after->bytes + after->at, after->header_length))
		complain("the checksum of the outer IPv4 header is wrong");
}

/* What a change of addresses and ports leaves as it was: the sum that a transport header carries, with
 * the addresses that count for it. A later fragment has none; ICMP sums no addresses, ICMPv6 does. */
static inline __u32 translated_residue(const struct view *view)
{
	const __u8 *ip = view->bytes + view->at;
	__u32 total = residue(ip + view->header_length, view->ip_length - view->header_length);

	if (view->family == 6)
		return (total + residue(ip + 8, 32)) % 65535;
	return ip[9] == 1 ? total : (total + residue(ip + 12, 8)) % 65535;
}

/* A UDP sum of zero is none, and nothing is carried in it; a later fragment of IPv6, or a UDP header
 * behind extensions, is not looked for here. */
static inline bool has_sum(const struct view *view)
{
	const __u8 *ip = view->bytes + view->at, *body = ip + view->header_length;

	if (view->family == 4 && (be16_at(ip + 6) & 0x1fff))
		return false;
	if (view->family == 6 && ip[6] != 6 && ip[6] != 17 && ip[6] != 58)
		return false;
	return ip[view->family == 4 ? 9 : 6] != 17 || be16_at(body + 6);
}

/* Tags in front may be others. */
static inline bool is_readdressed(const struct view *before, const struct view *after)
{
	__u32 addresses = before->family == 4 ? 12 : 8;

	return before->length - before->at == after->length - after->at &&
	       before->family && before->family == after->family &&
	       memcmp(before->bytes + before->at + addresses, after->bytes + after->at + addresses,
		      before->family == 4 ? 8 : 32);
}

/* The packet that came, with other tags, addresses and ports, and so with other sums; what an ICMP error
 * quotes may change as much again. Whatever was right or wrong by so much still is. */
static inline void expect_translated(const struct view *before, const struct view *after)
{
	const __u8 *old = before->bytes + before->at, *new = after->bytes + after->at;
	__u32 body = before->header_length, addresses = before->family == 4 ? 12 : 8;
	__u32 ttl_at = before->family == 4 ? 8 : 7, changed = 0;

	if (!before->family || before->family != after->family ||
	    before->length - before->at != after->length - after->at || before->header_length != after->header_length)
		complain("a translated packet of another form");
	for (__u32 i = 0; i < before->length - before->at; i++) {
		bool free = (i >= addresses && i < addresses + (before->family == 4 ? 8u : 32u)) ||
			    (before->family == 4 && (i == 10 || i == 11));

		if (i >= body)
			changed += old[i] != new[i];
		else if (!free && new[i] != (__u8)(old[i] - (i == ttl_at)))
			complain("byte %u of a translated header is %02x instead of %02x", i, new[i], old[i]);
	}
	/* Two ports and a sum; of a quote the same, its addresses and its header's sum; and ICMP's. */
	if (changed > (before->family == 4 ? 18u : 40u))
		complain("%u bytes of a translated packet are others", changed);
	if (before->family == 4)
		expect_same_residue(old, new, body);
	if (has_sum(before) && translated_residue(before) != translated_residue(after))
		complain("the checksum of a translated packet is off by another value than before");
}

/* The packet that came is there without what was before it, but for marks of congestion. */
static inline void expect_uncovered(const struct view *before, const struct view *after)
{
	__u32 inner = before->at + (before->length - after->length);
	const __u8 *old = before->bytes + inner, *new = after->bytes + after->at;

	if (!after->family || before->length <= after->length || before->at != after->at)
		complain("what was stripped leaves no packet");
	for (__u32 i = 0; i < after->length - after->at; i++) {
		bool sum = after->family == 4 && (i == 10 || i == 11);
		__u8 ecn = after->family == 4 ? (i == 1 ? 0x03 : 0) : (i == 1 ? 0x30 : 0);

		if (!sum && (old[i] ^ new[i]) & ~ecn)
			complain("byte %u of the inner packet is %02x instead of %02x", i, new[i], old[i]);
	}
	if (after->family == 4)
		expect_same_residue(old, new, after->header_length);
}

/* An answer to a ping: the same length, and checksums as right or wrong as before. */
static inline void expect_echoed(const struct view *before, const struct view *after)
{
	const __u8 *old = before->bytes + before->at, *new = after->bytes + after->at;
	__u32 body = before->header_length;
	__u32 addresses = before->family == 4 ? 12 : 8, size = before->family == 4 ? 4 : 16;

	if (before->length != after->length || before->family != after->family || !before->family)
		complain("an echo reply of another form than its request");
	if (memcmp(old + addresses, new + addresses + size, size) ||
	    memcmp(new + addresses, old + addresses + size, size))
		complain("an echo reply that does not go back");
	if (before->family == 4)
		expect_same_residue(old, new, body);
	if (residue(old + body, before->ip_length - body) !=
	    residue(new + body, before->ip_length - body))
		complain("the checksum of an echo reply is off by another value than its request's");
}

/* A packet of this protocol for whoever sent the one before; with a pseudo-header or without, the sums are right. */
static inline void expect_answer(const struct view *before, const struct view *after, __u8 protocol,
				 bool with_pseudo_header)
{
	const __u8 *old = before->bytes + before->at, *new = after->bytes + after->at;
	__u32 addresses = before->family == 4 ? 12 : 8, size = before->family == 4 ? 4 : 16;
	__u32 body = after->header_length;
	__u64 sum;

	if (before->family != after->family || !before->family || before->at != after->at ||
	    after->at + after->ip_length != after->length || after->length > before->length + 48 ||
	    new[before->family == 4 ? 9 : 6] != protocol)
		complain("an answer of another form than its packet");
	if (memcmp(old + addresses, new + addresses + size, size) ||
	    memcmp(new + addresses, old + addresses + size, size))
		complain("an answer that does not go back");
	sum = residue(new + body, after->ip_length - body);
	if (with_pseudo_header)
		sum += residue(new + addresses, 2 * size) + (after->ip_length - body) + protocol;
	if (sum % 65535 || (before->family == 4 && residue(new, body)))
		complain("an answer with a wrong checksum");
}

/* An ICMP error for whoever sent the packet, which it quotes as it came. */
static inline void expect_told(const struct view *before, const struct view *after)
{
	const __u8 *old = before->bytes + before->at, *new = after->bytes + after->at;
	__u32 body = after->header_length, quoted = after->ip_length - body - 8;

	expect_answer(before, after, before->family == 4 ? 1 : 58, before->family == 6);
	if (quoted > before->ip_length || memcmp(new + body + 8, old, quoted))
		complain("an ICMP error that quotes something else");
}

/* A TCP header with RST alone. */
static inline void expect_reset(const struct view *before, const struct view *after)
{
	const __u8 *tcp = after->bytes + after->at + after->header_length;

	expect_answer(before, after, 6, true);
	if (after->ip_length != after->header_length + 20 || tcp[12] != 0x50 || tcp[13] != 0x04)
		complain("a reset with something else in it");
}
