/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Which clients may use a service: its allow and deny prefixes. Knows one map; src/model/policy.ts is
 * its twin.
 */
#pragma once

#include "maps.h"
#include "packet.h"

/* The longest prefix that holds the client decides, else the service's default. */
static __always_inline bool is_denied(const struct packet *packet,
				      const struct service_version *version, __u32 service)
{
	struct policy_key key = { .prefix_bits = 32 + 128, .service = bpf_htonl(service) };
	__u32 *action = NULL;

	if (version->flags & SERVICE_HAS_POLICY) {
		copy_address(key.address, packet->flow.source);
		action = bpf_map_lookup_elem(&policies, &key);
	}
	if (action && *action != POLICY_NONE)
		return *action == POLICY_DENY;
	return version->flags & SERVICE_DENY_BY_DEFAULT;
}
