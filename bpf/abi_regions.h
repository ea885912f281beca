/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The shared facts of the regions that clients are in: a part of abi.h, by its rules.
 */
#pragma once

#include <linux/types.h>

/* Starts that a block of a table has. */
enum region_fanout { REGION_FANOUT = 16 };

/* Of regions in a table: numbers count from 1, and NOWHERE is none. */
enum region { REGION_NOWHERE = 0, REGIONS_MAX = 32 };

/* The first address of a stretch that is all in one region, in two halves. */
struct region_start {
	__u64 high;
	__u64 low;
};

/* A block of a table: a static search tree over all addresses (a B+ tree without pointers; the first block is its root).
 * An address belongs to the last start that is not above it; the first start of the root is ::. Starts that a block has
 * no use for are the highest address there is. */
struct region_block {
	struct region_start starts[16]; /* REGION_FANOUT */
	__u64 digest;           /* of the root: of the prefixes that the table is made of. Written last; 0: not whole */
	__u32 first_child;      /* block below the first start; the next ones are below the others. 0: a leaf */
	__u32 last;             /* which of the starts is the last in use */
	__u8 regions[16];       /* of a leaf: the region that begins at each start, or REGION_NOWHERE */
};

/* Key of `region_services`. */
struct region_key {
	__u32 regions;          /* as service_version.regions */
	__u32 service;          /* index of the service that is asked for */
	__u32 region;
};

/* Whose the clients of the region are. */
struct region_service {
	__u32 service;          /* index */
	__u32 version;          /* 0: the version of it that counts; else + 1: this one, before it counts: where it comes into
				 * force with the table of the service that is asked for */
};

/* What the service with this index is called, in `region_names`. No packet needs it, adoption does. */
struct region_name {
	__u32 asked;            /* index of the service that is asked for */
	__u8 name[64];          /* of the region, with zeros behind it */
};

_Static_assert(sizeof(struct region_start) == 16, "an address in the order of numbers");
_Static_assert(sizeof(struct region_block) == 288, "no padding that the compiler may leave unset");
_Static_assert(sizeof(struct region_key) == 12, "three words");
_Static_assert(sizeof(struct region_service) == 8, "two words");
_Static_assert(sizeof(struct region_name) == 68, "no padding that the compiler may leave unset");
