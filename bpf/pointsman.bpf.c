/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The packet path: parse, decide, forward, count. Each step has a header, included in the order a
 * packet meets them, and each ends with a verdict or lets the next one go on. Knows the order and
 * nothing else.
 */
#include "packet.h"
#include "decide.h"
#include "tunnel.h"
#include "translate.h"
#include "too_big.h"
#include "forward.h"
#include "reset.h"
#include "verdict.h"

SEC("xdp.frags")
int pointsman(struct xdp_md *ctx)
{
	struct packet packet;
	struct choice choice;
	enum verdict verdict;

	verdict = parse_packet(ctx, &packet);
	if (verdict == VERDICT_CONTINUE)
		verdict = decide(ctx, &packet, &choice);
	if (verdict == VERDICT_CONTINUE)
		verdict = forward(ctx, &packet, &choice);
	else if (verdict == TX_ECHO_REPLY)
		verdict = answer_echo(ctx, &packet, &choice.action);
	else if (feature_nat && (verdict == TX_REPLY || verdict == TX_ICMP_ERROR))
		verdict = reply(ctx, &packet, &choice, verdict);
	else if (feature_nat && verdict == TX_RESET)
		verdict = answer_reset(ctx, &packet, &choice);
	if (verdict == PASS_LOCAL || (verdict == TX_FORWARDED && packet.role != ROLE_PACKET))
		verdict = settle_special(verdict, &packet, &choice);
	else if (verdict == TX_FORWARDED)
		count_forwarded(&packet, &choice, settle(&packet, &choice));
	return finish(verdict, &packet, &choice);
}

/* The kernel's list of licences has no name for ours; this is one of the two that this file is
 * under. */
char LICENSE[] SEC("license") = "GPL";
