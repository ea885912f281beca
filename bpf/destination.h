/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Whether a destination may have a flow. Knows flags; knows no packet and no flow. mayHave() in
 * src/model/flow_decide.ts is its twin.
 */
#pragma once

#include "maps.h"

static __always_inline bool is_given(const struct destination *destination)
{
	return destination && destination->forwarding != FORWARDING_NONE;
}

/* Whether a flow that was with a destination of these flags, or whose client was, may be there; one that begins has to
 * be admitted. Where all backends get flows because too few are up, those that are not live keep what they get; whoever
 * was taken out does not. */
static __always_inline bool may_have(const struct service_version *version, __u32 flags, bool begins)
{
	if (flags & DESTINATION_LIVE)
		return !begins || flags & DESTINATION_ADMITS;
	return version->flags & SERVICE_FAILED_OPEN && !(flags & DESTINATION_RESETS);
}
