/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * What the config wants done with packets when the supervisor has given no sign of life for too long:
 * a dead one must not forward to dead backends for ever, unless that was chosen. Knows `settings`.
 */
#pragma once

#include "maps.h"

/* Times are added to and never subtracted: another CPU's `now` may be a little ahead of ours. */
static __always_inline enum verdict decide_orphaned(__u64 now_ns)
{
	__u32 only = 0;
	volatile struct settings *setting = bpf_map_lookup_elem(&settings, &only);
	__u64 after_ns;

	if (!setting)
		return VERDICT_CONTINUE;
	after_ns = setting->orphan_after_ns;
	if (after_ns == 0 || setting->heartbeat_ns + after_ns >= now_ns)
		return VERDICT_CONTINUE;
	switch (setting->orphan_action) {
	case ORPHAN_PASS:
		return PASS_ORPHANED;
	case ORPHAN_DROP:
		return DROP_ORPHANED;
	default:
		return VERDICT_CONTINUE;
	}
}
