/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The decapsulation program under the fuzzer: it passes everything, counts it once, and changes a
 * frame only by taking an outer header off that led to this host, in front of a virtual address. How frames are made is
 * input.h's.
 */
#include "decap.bpf.c"
#include "input.h"

static __u64 packets_of(__u32 verdict)
{
	const struct verdict_count *count = peek(&decap_counts, &verdict);

	return count ? count->packets : 0;
}

static void try_frame(struct frame *frame, const struct view *before)
{
	struct address_prefix within = { .prefix_bits = 128 };
	__u64 packets[DECAP_VERDICTS], total = 0;
	bool stripped;
	struct view after;

	for (__u32 i = 0; i < DECAP_VERDICTS; i++)
		packets[i] = packets_of(i);
	if (decap(&frame->ctx) != XDP_PASS)
		complain("a frame that does not pass");
	for (__u32 i = 0; i < DECAP_VERDICTS; i++)
		total += packets_of(i) - packets[i];
	if (total != 1)
		complain("%llu verdicts for one frame", total);
	stripped = packets_of(DECAP_PASS_STRIPPED) != packets[DECAP_PASS_STRIPPED];
	after = view_after(frame);
	if (!stripped)
		return expect_same(before, &after, "passed as it came");
	expect_uncovered(before, &after);
	memcpy(within.address, before->destination, sizeof(within.address));
	if (!peek(&decap_local, &within))
		complain("stripped although it leads to another host");
	memcpy(within.address, after.destination, sizeof(within.address));
	if (!peek(&decap_addresses, &within))
		complain("stripped in front of an address that is not virtual");
}
