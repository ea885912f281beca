/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The version of a service that counts. Knows the two maps that hold them; knows no packet.
 */
#pragma once

#include "maps.h"

/* The one read of service_active: everything else about the service is derived from it. */
static __always_inline const struct service_version *active_version(__u32 service)
{
	volatile __u32 *active = bpf_map_lookup_elem(&service_active, &service);
	__u32 element;

	if (!active)
		return NULL;
	element = service * 2 + (*active & 1);
	return bpf_map_lookup_elem(&service_versions, &element);
}

/* Where this version of the service stands, for functions that are checked by themselves and cannot be given a
 * pointer to it. */
static __always_inline __u32 element_of(__u32 service, const struct service_version *version)
{
	__u32 element = service * 2;

	return bpf_map_lookup_elem(&service_versions, &element) == version ? element : element + 1;
}
