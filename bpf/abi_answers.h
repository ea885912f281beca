/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * More of the ABI, by the rules of abi.h: what is counted of backends' answers.
 */
#pragma once

#include <linux/types.h>

/* Per CPU, one for each destination: first answers to what began translated flows, and how long clients waited for
 * them, all together. */
struct answer_count {
	__u64 answers;
	__u64 waited_ns;
};

_Static_assert(sizeof(struct answer_count) == 16, "per-CPU values are multiples of 8");
