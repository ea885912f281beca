/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The flow hash: HalfSipHash-1-3 over a packet's 5-tuple or its masked source, keyed with the
 * 64-bit seed. Knows words and the order they go in, and nothing of packets, services or rings.
 * Compiles for BPF and, for its test, for the machine at hand. src/model/flow_hash.ts is its twin.
 */
#pragma once

#include <linux/types.h>

#ifndef __always_inline
#define __always_inline inline __attribute__((always_inline))
#endif

struct half_sip_hash {
	__u32 v0, v1, v2, v3;
};

/* The hash is defined on little-endian words; addresses and ports come as they lie in packets. */
static __always_inline __u32 little_endian_word(__u32 word)
{
#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	return __builtin_bswap32(word);
#else
	return word;
#endif
}

static __always_inline __u32 rotate_left(__u32 word, __u32 bits)
{
	return word << bits | word >> (32 - bits);
}

static __always_inline void half_sip_round(struct half_sip_hash *h)
{
	h->v0 += h->v1;
	h->v1 = rotate_left(h->v1, 5) ^ h->v0;
	h->v0 = rotate_left(h->v0, 16);
	h->v2 += h->v3;
	h->v3 = rotate_left(h->v3, 8) ^ h->v2;
	h->v0 += h->v3;
	h->v3 = rotate_left(h->v3, 7) ^ h->v0;
	h->v2 += h->v1;
	h->v1 = rotate_left(h->v1, 13) ^ h->v2;
	h->v2 = rotate_left(h->v2, 16);
}

static __always_inline void half_sip_begin(struct half_sip_hash *h, __u64 seed)
{
	h->v0 = (__u32)seed;
	h->v1 = (__u32)(seed >> 32);
	h->v2 = (__u32)seed ^ 0x6c796765;
	h->v3 = (__u32)(seed >> 32) ^ 0x74656462;
}

/* The numbers of rounds are parameters for the sake of the reference vectors, which are 2 and 4. */
static __always_inline void half_sip_absorb(struct half_sip_hash *h, __u32 word, __u32 rounds)
{
	h->v3 ^= word;
	for (__u32 round = 0; round < rounds; round++)
		half_sip_round(h);
	h->v0 ^= word;
}

static __always_inline __u32 half_sip_finish(struct half_sip_hash *h, __u32 rounds)
{
	h->v2 ^= 0xff;
	for (__u32 round = 0; round < rounds; round++)
		half_sip_round(h);
	return h->v1 ^ h->v3;
}

/* The four words of an address, which has to be aligned to four bytes: left in doubt about that,
 * the compiler loads single bytes. */
static __always_inline void load_address(__u32 words[4], const __u8 address[16])
{
	__builtin_memcpy(words, __builtin_assume_aligned(address, 4), 16);
}

static __always_inline void half_sip_absorb_address(struct half_sip_hash *h, const __u8 address[16])
{
	__u32 words[4];

	load_address(words, address);
	half_sip_absorb(h, little_endian_word(words[0]), 1);
	half_sip_absorb(h, little_endian_word(words[1]), 1);
	half_sip_absorb(h, little_endian_word(words[2]), 1);
	half_sip_absorb(h, little_endian_word(words[3]), 1);
}

/* The 37 bytes source, destination, source port, destination port, protocol. */
static __always_inline __u32 flow_hash(__u64 seed, const __u8 source[16], __be16 source_port,
				       const __u8 destination[16], __be16 destination_port,
				       __u8 protocol)
{
	struct half_sip_hash h;
	__u32 ports;

#if __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__
	ports = (__u32)source_port << 16 | destination_port;
#else
	ports = (__u32)destination_port << 16 | source_port;
#endif
	half_sip_begin(&h, seed);
	half_sip_absorb_address(&h, source);
	half_sip_absorb_address(&h, destination);
	half_sip_absorb(&h, little_endian_word(ports), 1);
	half_sip_absorb(&h, protocol | 37u << 24, 1);
	return half_sip_finish(&h, 3);
}

/* The word with all but its first `bits` bits, in packet order, set to 0. */
static __always_inline __u32 mask_word(__u32 word, __s32 bits)
{
	__u32 mask;

	if (bits <= 0)
		return 0;
	if (bits >= 32)
		return word;
	mask = 0xffffffffu << (32 - bits);
#if __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
	mask = __builtin_bswap32(mask);
#endif
	return word & mask;
}

/* The 16 bytes of the source alone, all but its first `prefix_bits` (0…128) set to 0. IPv4 is
 * mapped: 96 + the bits that count of its own 32. */
static __always_inline __u32 source_hash(__u64 seed, const __u8 source[16], __u32 prefix_bits)
{
	struct half_sip_hash h;
	__s32 bits = (__s32)prefix_bits;
	__u32 words[4];

	load_address(words, source);
	half_sip_begin(&h, seed);
	half_sip_absorb(&h, little_endian_word(mask_word(words[0], bits)), 1);
	half_sip_absorb(&h, little_endian_word(mask_word(words[1], bits - 32)), 1);
	half_sip_absorb(&h, little_endian_word(mask_word(words[2], bits - 64)), 1);
	half_sip_absorb(&h, little_endian_word(mask_word(words[3], bits - 96)), 1);
	half_sip_absorb(&h, 16u << 24, 1);
	return half_sip_finish(&h, 3);
}

/* The ring slot of a hash: no division, and always below `size`. */
static __always_inline __u32 slot_of(__u32 hash, __u32 size)
{
	return (__u32)((__u64)hash * size >> 32);
}
