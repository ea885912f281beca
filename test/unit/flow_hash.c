/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The C twin of the flow hash at a prompt: reads one request per line, writes one decimal per line.
 * Compiled for this machine by flow_hash.test.ts; knows bpf/flow_hash.h and nothing else.
 *
 *   bytes C D SEED HEX-OR-DASH
 *   flow SEED SOURCE DESTINATION SOURCE-PORT DESTINATION-PORT PROTOCOL
 *   source SEED SOURCE PREFIX-BITS
 *   slot HASH SIZE
 */
#include <arpa/inet.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../bpf/flow_hash.h"

/* The definition on any bytes, one at a time, to hold the packed words of the header against. */
static __u32 half_sip_hash_bytes(const __u8 *bytes, size_t length, __u64 seed, __u32 c, __u32 d)
{
	struct half_sip_hash h;
	__u32 word = 0;
	size_t at;

	half_sip_begin(&h, seed);
	for (at = 0; at < length; at++) {
		word |= (__u32)bytes[at] << 8 * (at % 4);
		if (at % 4 == 3) {
			half_sip_absorb(&h, word, c);
			word = 0;
		}
	}
	half_sip_absorb(&h, word | (__u32)length << 24, c);
	return half_sip_finish(&h, d);
}

static size_t unhex(const char *text, __u8 *bytes)
{
	size_t length = strcmp(text, "-") == 0 ? 0 : strlen(text) / 2;
	unsigned int byte;

	for (size_t at = 0; at < length; at++) {
		if (sscanf(text + 2 * at, "%2x", &byte) != 1)
			exit(2);
		bytes[at] = (__u8)byte;
	}
	return length;
}

static __u32 answer(char *line)
{
	char first[160], second[160];
	__u8 bytes[80] __attribute__((aligned(4)));
	__u8 source[80] __attribute__((aligned(4)));
	__u8 destination[80] __attribute__((aligned(4)));
	unsigned long long seed;
	unsigned int a, b, c;

	if (sscanf(line, "bytes %u %u %llx %159s", &a, &b, &seed, first) == 4)
		return half_sip_hash_bytes(bytes, unhex(first, bytes), seed, a, b);
	if (sscanf(line, "flow %llx %159s %159s %u %u %u", &seed, first, second, &a, &b, &c) == 6) {
		unhex(first, source);
		unhex(second, destination);
		return flow_hash(seed, source, htons((uint16_t)a), destination, htons((uint16_t)b),
				 (__u8)c);
	}
	if (sscanf(line, "source %llx %159s %u", &seed, first, &a) == 3) {
		unhex(first, source);
		return source_hash(seed, source, a);
	}
	if (sscanf(line, "slot %u %u", &a, &b) == 2)
		return slot_of(a, b);
	fprintf(stderr, "not understood: %s", line);
	exit(2);
}

int main(void)
{
	char line[512];

	while (fgets(line, sizeof(line), stdin))
		printf("%u\n", answer(line));
	return 0;
}
