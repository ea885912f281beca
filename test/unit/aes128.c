/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The C twin of AES-128 at a prompt: reads "encrypt SCHEDULE BLOCK" or "decrypt SCHEDULE BLOCK" per
 * line, words as they lie in memory, in hexadecimal digits; writes a block per line. Compiled for
 * this machine by aes128.test.ts; knows bpf/aes128.h and nothing else.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../../bpf/aes128.h"

static void unhex(const char *text, void *to, size_t length)
{
	unsigned char *bytes = to;
	unsigned int byte;

	for (size_t at = 0; at < length; at++) {
		if (sscanf(text + 2 * at, "%2x", &byte) != 1)
			exit(2);
		bytes[at] = (unsigned char)byte;
	}
}

int main(void)
{
	char line[512], what[16], schedule_text[400], block_text[64];
	struct aes_schedule schedule;
	struct aes_block block;

	while (fgets(line, sizeof(line), stdin)) {
		if (sscanf(line, "%15s %399s %63s", what, schedule_text, block_text) != 3)
			exit(2);
		unhex(schedule_text, &schedule, sizeof(schedule));
		unhex(block_text, &block, sizeof(block));
		if (strcmp(what, "encrypt") == 0 ? aes_encrypt(&schedule, &block)
						 : aes_decrypt(&schedule, &block))
			exit(3);
		for (size_t at = 0; at < sizeof(block); at++)
			printf("%02x", ((unsigned char *)&block)[at]);
		printf("\n");
	}
	return 0;
}
