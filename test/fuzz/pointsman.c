/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The packet path under the fuzzer: one legal verdict for each frame, whose action fits; PASS
 * changes nothing; nothing but PASS for what is not for a virtual address; what is sent on is what
 * came. Knows verdicts by their names; how frames are made is input.h's.
 */
#include "pointsman.bpf.c"
#include "input.h"

static __u64 packets_of(__u32 verdict)
{
	const struct verdict_count *count = peek(&verdict_counts, &verdict);

	return count ? count->packets : 0;
}

static __u64 bytes_of(__u32 verdict)
{
	const struct verdict_count *count = peek(&verdict_counts, &verdict);

	return count ? count->bytes : 0;
}

/* The one under which the frame was counted. */
static enum verdict counted(const __u64 before[VERDICTS], __u64 bytes_before, __u32 length)
{
	enum verdict found = VERDICT_CONTINUE;
	__u64 bytes = 0, packets = 0;

	for (__u32 i = 0; i < VERDICTS; i++) {
		packets += packets_of(i) - before[i];
		bytes += bytes_of(i);
		if (packets_of(i) != before[i])
			found = i;
	}
	if (packets != 1 || found == VERDICT_CONTINUE)
		complain("%llu verdicts for one frame", packets);
	if (bytes - bytes_before != length)
		complain("%llu bytes counted for %u", bytes - bytes_before, length);
	return found;
}

static void judge_action(enum verdict verdict, int action)
{
	bool passes = verdict < TX_FORWARDED, drops = verdict >= DROP_DENIED;

	if (passes ? action != XDP_PASS
		   : drops ? action != XDP_DROP : action != XDP_TX && action != XDP_REDIRECT)
		complain("verdict %d with action %d", verdict, action);
}

/* Whether a service has this address, alone or within a prefix. */
static bool is_virtual(const __u8 *address)
{
	struct address_prefix prefix = { .prefix_bits = 128 };

	memcpy(prefix.address, address, sizeof(prefix.address));
	return peek(&virtual_addresses, address) || peek(&address_groups, &prefix);
}

static void judge_sent(enum verdict verdict, const struct view *before, const struct view *after)
{
	/* An error about a request may come from the virtual address that it seems to come from next. */
	bool readdressed = is_readdressed(before, after) || !is_virtual(before->destination);

	switch (verdict) {
	case TX_FORWARDED:
	case TX_ICMP_ERROR:
		return readdressed ? expect_translated(before, after) : expect_carried(before, after);
	case TX_REPLY:
		return expect_translated(before, after);
	case TX_ECHO_REPLY:
		return expect_echoed(before, after);
	case TX_TOO_BIG:
		return expect_told(before, after);
	case TX_RESET:
		return expect_reset(before, after);
	default:
		complain("verdict %d, of which nobody said what is to hold", verdict);
	}
}

/* Whether a tunnel of ours begins there: its words but the last one are that of a destination's
 * source, and so are the bits of the last one that no flow sets. */
static bool is_tunnel_source(const __u8 *address)
{
	const struct destination *destination;
	__u32 last, source;

	memcpy(&last, address + 12, sizeof(last));
	for (__u32 id = 1; (destination = peek(&destinations, &id)); id++) {
		memcpy(&source, destination->tunnel_source + 12, sizeof(source));
		if (destination->forwarding > FORWARDING_L2 && !memcmp(destination->tunnel_source, address, 12) &&
		    (last & ~destination->tunnel_source_mask) == source)
			return true;
	}
	return false;
}

static void try_frame(struct frame *frame, const struct view *before)
{
	__u64 packets[VERDICTS], bytes = 0;
	enum verdict verdict;
	struct view after;
	int action;

	for (__u32 i = 0; i < VERDICTS; i++) {
		packets[i] = packets_of(i);
		bytes += bytes_of(i);
	}
	action = pointsman(&frame->ctx);
	verdict = counted(packets, bytes, before->length);
	judge_action(verdict, action);
	after = view_after(frame);
	if (verdict == PASS_LOCAL && (!before->family || !is_virtual(before->destination)))
		complain("local delivery of a frame that is not for a virtual address");
	if (action == XDP_PASS)
		return expect_same(before, &after, "passed");
	if (verdict == DROP_TUNNEL_ERROR) {
		if (!before->family || !is_tunnel_source(before->destination))
			complain("a tunnel's error that no tunnel of ours begins for");
		return;
	}
	if (!before->family || before->mapped ||
	    (!is_virtual(before->destination) &&
	     !any_key_begins(&nat_flows, before->destination, sizeof(before->destination))))
		complain("verdict %d for a frame that is not for a virtual address", verdict);
	if (action != XDP_DROP)
		judge_sent(verdict, before, &after);
}
