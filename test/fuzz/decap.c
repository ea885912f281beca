/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The decapsulation program under the fuzzer: it drops nothing, counts it once, and changes a frame only by
 * taking an outer header off that led to this host, in front of a virtual address, or by sending a known
 * balancer's packet on to another backend. How frames are made is input.h's.
 */
#include "decap.bpf.c"
#include "input.h"

static __u64 packets_of(__u32 verdict)
{
	const struct verdict_count *count = peek(&decap_counts, &verdict);

	return count ? count->packets : 0;
}

static bool is_counted(const __u64 *packets, __u32 verdict)
{
	return packets_of(verdict) != packets[verdict];
}

/* Bytes of the outer packet that may be others once it leads elsewhere: those of the hop, the destination
 * and its sum, and the mark of who is asked. */
static bool may_change(const struct view *before, __u32 at)
{
	const __u8 *ip = before->bytes + before->at;
	bool ipv4 = before->family == 4;
	__u32 shim = before->header_length;
	__u8 protocol = ip[ipv4 ? 9 : 6];

	if (at == (ipv4 ? 8u : 7u) || (ipv4 && (at == 10 || at == 11)))
		return true;
	if (ipv4 ? at >= 16 && at < 20 : at >= 24 && at < 40)
		return true;
	return protocol == IPPROTO_GRE ? at >= shim + 4 && at < shim + 8 : at == shim + 8 + 4 + 2;
}

/* Still the balancer's packet, for somebody else. */
static void expect_led(const struct view *before, const struct view *after, bool transmitted)
{
	struct address_prefix source = { .prefix_bits = 128 };
	const __u8 *old = before->bytes + before->at, *new = after->bytes + after->at;

	if (before->length != after->length || !before->family || before->family != after->family)
		complain("sent on in another form");
	if (memcmp(before->bytes, after->bytes, 12) && !transmitted)
		complain("the kernel is to forward a frame that is not for this host");
	for (__u32 i = 0; i < before->length - before->at; i++)
		if (old[i] != new[i] && !may_change(before, i))
			complain("byte %u of a packet that is sent on is %02x instead of %02x", i, new[i], old[i]);
	if (before->family == 4)
		expect_same_residue(old, new, before->header_length);
	if (before->family == 4) {
		source.address[10] = source.address[11] = 0xff;
		memcpy(source.address + 12, old + 12, 4);
	} else {
		memcpy(source.address, old + 8, 16);
	}
	if (!peek(&decap_sources, &source))
		complain("sent on although it is no balancer's");
}

static void try_frame(struct frame *frame, const struct view *before)
{
	struct address_prefix within = { .prefix_bits = 128 };
	__u64 packets[DECAP_VERDICTS], total = 0;
	bool stripped, transmitted;
	int action;
	struct view after;

	for (__u32 i = 0; i < DECAP_VERDICTS; i++)
		packets[i] = packets_of(i);
	action = decap(&frame->ctx);
	transmitted = is_counted(packets, DECAP_TX_ALTERNATE);
	if (transmitted ? action != XDP_TX && action != XDP_REDIRECT : action != XDP_PASS)
		complain("action %d for a frame that is %s on", action, transmitted ? "sent" : "not sent");
	if (held_sockets())
		complain("a socket is not given back");
	for (__u32 i = 0; i < DECAP_VERDICTS; i++)
		total += packets_of(i) - packets[i];
	if (total != 1)
		complain("%llu verdicts for one frame", total);
	after = view_after(frame);
	if (transmitted || is_counted(packets, DECAP_PASS_ALTERNATE))
		return expect_led(before, &after, transmitted);
	stripped = is_counted(packets, DECAP_PASS_STRIPPED) || is_counted(packets, DECAP_PASS_OWNED) ||
		   is_counted(packets, DECAP_PASS_LAST) || is_counted(packets, DECAP_PASS_NO_WAY);
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
