/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * As much of the kernel as a program needs that runs natively: maps filled from the generated
 * worlds, and a frame with exact bounds. Knows map types and head-room; knows no service and no
 * verdict. A target includes its program first, then generated.h, which lists its maps.
 */
#pragma once

#include <linux/bpf.h>
#include <stdbool.h>
#include <stddef.h>

struct entry {
	__u8 *key;
	__u8 *value;            /* of exactly its size, so that a look beyond it is seen */
	bool present;
	struct entry *next;
};

struct map {
	const void *id;         /* the program's variable */
	const char *name;
	__u32 type;             /* enum bpf_map_type */
	__u32 key_size;
	__u32 value_size;       /* 0: its values are maps */
	__u32 entries_max;
	struct entry *entries;
	__u8 **elements;        /* of arrays, made when first looked at */
	__u32 count;
};

/* One write to one map before the program runs. */
enum write_kind { WRITE_ENTRY, WRITE_MEMORY, WRITE_INNER, WRITE_CAPACITY };
struct write {
	enum write_kind kind;
	const char *map;
	const void *key;
	__u32 key_size;
	const void *value;
	__u32 value_size;       /* of what is written; the rest is zero */
	__u32 size;             /* of an inner map's value, or the new capacity */
};

struct world {
	const struct write *writes;
	__u32 count;
};

/* A frame as the driver gives it: a linear part, of which nothing beyond may be touched, and what
 * may follow in fragments. */
struct frame {
	__u8 *memory;
	__u8 *fragments;
	__u32 fragments_length;
	__u32 linear_length;
	struct xdp_md ctx;
};

/* What helpers answer. */
struct answers {
	__u64 now_ns;
	__u32 random;
	bool updates_fail;
};

extern struct answers answers;

/* Once: makes all worlds from the maps that the program has. */
void make_worlds(const struct map *maps, __u32 maps_count, const struct world *worlds,
		 __u32 worlds_count);
void choose_world(__u32 number);
/* Every map as it was when the world was made. */
void restore_world(void);
/* A look-up that is not the program's: NULL when absent. */
const void *peek(const void *map, const void *key);

/* Sockets that the program has found and not given back. */
__u32 held_sockets(void);

/* Whether a hash has a key that begins with these bytes. */
bool any_key_begins(const void *map, const void *bytes, __u32 length);

void make_frame(struct frame *frame, const __u8 *bytes, __u32 length, __u32 linear_length,
		__u32 room);
void free_frame(struct frame *frame);
__u32 frame_length(const struct frame *frame);
/* Copies all of it, fragments too. */
void copy_frame(const struct frame *frame, __u8 *to);

/* Says what is wrong and aborts, so that the fuzzer keeps the input. */
void complain(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
