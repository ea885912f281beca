/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The stand-in for the kernel (kernel.h): maps and their journal, which puts a world back as it was
 * after each input, and the functions that programs call. Knows what Linux does with a map and a
 * frame (include/uapi/linux/bpf.h); is plain rather than fast.
 */
#include "kernel.h"
#include "libbpf.h"

#include <linux/if_ether.h>
#include <sanitizer/asan_interface.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Whoever reads head-room that was never written reads this. */
enum { MTU = 1500 };
enum { UNWRITTEN = 0xff, JOURNAL_MAX = 256, JOURNAL_BYTES = 256, WORLDS_MAX = 32 };

struct journal_line {
	__u8 *value;            /* what was looked at, and may have been written */
	struct entry *gone;     /* what was deleted */
	struct map *grown;      /* what has a new entry, its first */
	__u32 size;
	__u8 before[JOURNAL_BYTES];
};

struct answers answers;
static struct map *worlds[WORLDS_MAX];
static struct map *current;
static __u32 maps_in_world;
static struct journal_line journal[JOURNAL_MAX];
static __u32 journal_length;
static struct frame *running;

void complain(const char *format, ...)
{
	va_list list;

	va_start(list, format);
	fprintf(stderr, "COMPLAINT: ");
	vfprintf(stderr, format, list);
	fprintf(stderr, "\n");
	va_end(list);
	abort();
}

static void *allocate(__u32 size)
{
	void *memory = calloc(1, size);

	if (!memory)
		complain("out of memory");
	return memory;
}

static bool is_array(const struct map *map)
{
	return map->type == BPF_MAP_TYPE_ARRAY || map->type == BPF_MAP_TYPE_PERCPU_ARRAY ||
	       map->type == BPF_MAP_TYPE_ARRAY_OF_MAPS;
}

/* A map of the world, or, where the program has looked one up, an inner one: it is its own id. */
static struct map *map_of(const void *id)
{
	const struct map *inner = id;

	for (__u32 i = 0; i < maps_in_world; i++)
		if (current[i].id == id)
			return &current[i];
	if (inner->id != id)
		complain("a look into a map that is none");
	return (struct map *)inner;
}

static struct map *map_named(const char *name)
{
	for (__u32 i = 0; i < maps_in_world; i++)
		if (!strcmp(current[i].name, name))
			return &current[i];
	return NULL;
}

static struct journal_line *new_line(void)
{
	if (journal_length == JOURNAL_MAX)
		complain("more than %d look-ups for one input", JOURNAL_MAX);
	journal[journal_length] = (struct journal_line){};
	return &journal[journal_length++];
}

/* Rings are too large to be kept, and programs only read them. */
static void note_value(__u8 *value, __u32 size)
{
	struct journal_line *line;

	if (size > JOURNAL_BYTES)
		return;
	for (__u32 i = 0; i < journal_length; i++)
		if (journal[i].value == value)
			return;
	line = new_line();
	line->value = value;
	line->size = size;
	memcpy(line->before, value, size);
}

static void forget_first(struct map *map)
{
	struct entry *entry = map->entries;

	map->entries = entry->next;
	map->count -= 1;
	free(entry->key);
	free(entry->value);
	free(entry);
}

void restore_world(void)
{
	while (journal_length > 0) {
		const struct journal_line *line = &journal[--journal_length];

		if (line->grown)
			forget_first(line->grown);
		else if (line->gone)
			line->gone->present = true;
		else
			memcpy(line->value, line->before, line->size);
	}
}

/* --- arrays, hashes and tries ------------------------------------------------------------------ */

static __u8 *element(struct map *map, __u32 index)
{
	if (index >= map->entries_max)
		return NULL;
	if (!map->elements)
		map->elements = allocate(map->entries_max * sizeof(*map->elements));
	if (!map->elements[index] && map->value_size)
		map->elements[index] = allocate(map->value_size);
	return map->elements[index];
}

/* Compared byte by byte, so that the fuzzer sees how near a key came. */
static struct entry *entry_of(const struct map *map, const void *key)
{
	for (struct entry *entry = map->entries; entry; entry = entry->next)
		if (entry->present && !memcmp(entry->key, key, map->key_size))
			return entry;
	return NULL;
}

static __u32 common_bits(const __u8 *a, const __u8 *b, __u32 bits)
{
	for (__u32 bit = 0; bit < bits; bit++)
		if ((a[bit / 8] ^ b[bit / 8]) & (0x80 >> bit % 8))
			return bit;
	return bits;
}

/* Keys of a trie begin with the number of bits that count (struct bpf_lpm_trie_key). */
static struct entry *longest_prefix(const struct map *map, const void *key)
{
	__u32 wanted = *(const __u32 *)key, longest = 0;
	struct entry *found = NULL;

	for (struct entry *entry = map->entries; entry; entry = entry->next) {
		__u32 bits;

		memcpy(&bits, entry->key, sizeof(bits));
		if (!entry->present || bits > wanted || (found && bits <= longest))
			continue;
		if (common_bits(entry->key + 4, (const __u8 *)key + 4, bits) < bits)
			continue;
		found = entry;
		longest = bits;
	}
	return found;
}

static __u8 *value_in(struct map *map, const void *key)
{
	struct entry *entry;

	if (is_array(map))
		return element(map, *(const __u32 *)key);
	entry = map->type == BPF_MAP_TYPE_LPM_TRIE ? longest_prefix(map, key) : entry_of(map, key);
	return entry ? entry->value : NULL;
}

static void put(struct map *map, const void *key, const void *value)
{
	struct entry *entry = allocate(sizeof(*entry));

	entry->key = allocate(map->key_size);
	entry->value = allocate(map->value_size);
	memcpy(entry->key, key, map->key_size);
	memcpy(entry->value, value, map->value_size);
	entry->present = true;
	entry->next = map->entries;
	map->entries = entry;
	map->count += 1;
}

void *bpf_map_lookup_elem(const void *id, const void *key)
{
	struct map *map = map_of(id);
	__u8 *value = value_in(map, key);

	if (value && map->value_size)
		note_value(value, map->value_size);
	return value;
}

long bpf_map_update_elem(const void *id, const void *key, const void *value, __u64 flags)
{
	struct map *map = map_of(id);
	__u8 *known = value_in(map, key);

	if (answers.updates_fail)
		return -ENOMEM;
	if (map->type == BPF_MAP_TYPE_LPM_TRIE || !map->value_size)
		complain("%s is not for programs to write", map->name);
	if (known && flags == BPF_NOEXIST)
		return -EEXIST;
	if (!known && flags == BPF_EXIST)
		return -ENOENT;
	if (known) {
		note_value(known, map->value_size);
		memcpy(known, value, map->value_size);
		return 0;
	}
	if (is_array(map) || (map->count >= map->entries_max && map->type != BPF_MAP_TYPE_LRU_HASH))
		return -E2BIG;
	put(map, key, value);
	new_line()->grown = map;
	return 0;
}

long bpf_map_delete_elem(const void *id, const void *key)
{
	struct map *map = map_of(id);
	struct entry *entry = is_array(map) ? NULL : entry_of(map, key);

	if (!entry)
		return -ENOENT;
	new_line()->gone = entry;
	entry->present = false;
	return 0;
}

long bpf_redirect_map(const void *id, __u64 key, __u64 flags)
{
	__u32 index = key;

	return value_in(map_of(id), &index) ? XDP_REDIRECT : (long)(flags & 3);
}

/* Every interface carries as much. */
long bpf_check_mtu(void *ctx, __u32 ifindex, __u32 *mtu, __s32 difference, __u64 flags)
{
	bool fits = *mtu + difference <= MTU;

	if (!ctx || !ifindex || flags)
		return -EINVAL;
	*mtu = MTU;
	return fits ? BPF_MTU_CHK_RET_SUCCESS : BPF_MTU_CHK_RET_FRAG_NEEDED;
}

bool any_key_begins(const void *id, const void *bytes, __u32 length)
{
	for (const struct entry *entry = map_of(id)->entries; entry; entry = entry->next)
		if (entry->present && !memcmp(entry->key, bytes, length))
			return true;
	return false;
}

const void *peek(const void *id, const void *key)
{
	return value_in(map_of(id), key);
}

/* --- worlds ------------------------------------------------------------------------------------- */

static void write_memory(struct map *map, const __u8 *bytes, __u32 length)
{
	/* As the kernel lays out what is mapped into memory. */
	__u32 stride = (map->value_size + 7) & ~7u;

	for (__u32 at = 0; at < length; at += stride) {
		__u32 rest = length - at;

		memcpy(element(map, at / stride), bytes + at, rest < map->value_size ? rest : map->value_size);
	}
}

static void write_inner(struct map *map, const struct write *write)
{
	struct map *inner = allocate(sizeof(*inner));
	__u32 index = *(const __u32 *)write->key;

	*inner = (struct map){ .id = inner, .name = map->name, .type = BPF_MAP_TYPE_ARRAY,
			       .key_size = 4, .value_size = write->size,
			       .entries_max = write->value_size > write->size ? (write->value_size + write->size - 1) / write->size : 1 };
	write_memory(inner, write->value, write->value_size);
	element(map, index);
	map->elements[index] = (__u8 *)inner;
}

static void apply_write(const struct write *write)
{
	struct map *map = map_named(write->map);

	if (!map)
		complain("a world writes to %s, which the program does not have", write->map);
	switch (write->kind) {
	case WRITE_CAPACITY:
		map->entries_max = write->size;
		break;
	case WRITE_MEMORY:
		write_memory(map, write->value, write->value_size);
		break;
	case WRITE_INNER:
		write_inner(map, write);
		break;
	case WRITE_ENTRY:
		if (write->key_size != map->key_size || write->value_size != map->value_size)
			complain("a world writes other sizes to %s than it has", write->map);
		if (is_array(map))
			memcpy(element(map, *(const __u32 *)write->key), write->value, map->value_size);
		else
			put(map, write->key, write->value);
	}
}

void make_worlds(const struct map *maps, __u32 maps_count, const struct world *list,
		 __u32 worlds_count)
{
	if (worlds_count > WORLDS_MAX)
		complain("%u worlds are too many", worlds_count);
	maps_in_world = maps_count;
	for (__u32 i = 0; i < worlds_count; i++) {
		worlds[i] = current = allocate(maps_count * sizeof(*maps));
		memcpy(current, maps, maps_count * sizeof(*maps));
		for (__u32 j = 0; j < list[i].count; j++)
			apply_write(&list[i].writes[j]);
	}
}

void choose_world(__u32 number)
{
	current = worlds[number];
}

/* --- frames ------------------------------------------------------------------------------------- */

void make_frame(struct frame *frame, const __u8 *bytes, __u32 length, __u32 linear_length,
		__u32 room)
{
	frame->linear_length = linear_length;
	frame->fragments_length = length - linear_length;
	frame->memory = allocate(room + linear_length);
	frame->fragments = allocate(frame->fragments_length);
	memset(frame->memory, UNWRITTEN, room);
	memcpy(frame->memory + room, bytes, linear_length);
	memcpy(frame->fragments, bytes + linear_length, frame->fragments_length);
	ASAN_POISON_MEMORY_REGION(frame->memory, room);
	memset(&frame->ctx, 0, sizeof(frame->ctx));
	frame->ctx.data = (unsigned long)(frame->memory + room);
	frame->ctx.data_end = frame->ctx.data + linear_length;
	frame->ctx.data_meta = frame->ctx.data;
	frame->ctx.ingress_ifindex = 1;
	running = frame;
}

void free_frame(struct frame *frame)
{
	ASAN_UNPOISON_MEMORY_REGION(frame->memory, frame->ctx.data_end - (unsigned long)frame->memory);
	free(frame->memory);
	free(frame->fragments);
	running = NULL;
}

__u32 frame_length(const struct frame *frame)
{
	return frame->ctx.data_end - frame->ctx.data + frame->fragments_length;
}

void copy_frame(const struct frame *frame, __u8 *to)
{
	__u32 linear = frame->ctx.data_end - frame->ctx.data;

	memcpy(to, (const void *)frame->ctx.data, linear);
	memcpy(to + linear, frame->fragments, frame->fragments_length);
}

__u64 bpf_xdp_get_buff_len(struct xdp_md *ctx)
{
	return ctx->data_end - ctx->data + running->fragments_length;
}

long bpf_xdp_adjust_head(struct xdp_md *ctx, int delta)
{
	long data = (long)ctx->data + delta;

	if (data < (long)running->memory || data > (long)ctx->data_end - ETH_HLEN)
		return -EINVAL;
	if (delta < 0)
		ASAN_UNPOISON_MEMORY_REGION((void *)data, -delta);
	else
		ASAN_POISON_MEMORY_REGION((void *)ctx->data, delta);
	/* What was given up is the kernel's, and comes back as anything. */
	if (delta < 0)
		memset((void *)data, UNWRITTEN, -delta);
	ctx->data = data;
	ctx->data_meta = data;
	return 0;
}

/* Fragments are not cut and frames do not grow beyond what they were: the kernel may refuse both. */
long bpf_xdp_adjust_tail(struct xdp_md *ctx, int delta)
{
	long end = (long)ctx->data_end + delta;

	if (running->fragments_length || delta > 0 || end < (long)ctx->data + ETH_HLEN)
		return -EINVAL;
	ASAN_POISON_MEMORY_REGION((void *)end, -delta);
	ctx->data_end = end;
	return 0;
}

static __u8 *byte_at(struct xdp_md *ctx, __u32 offset)
{
	__u32 linear = ctx->data_end - ctx->data;

	return offset < linear ? (__u8 *)ctx->data + offset : running->fragments + offset - linear;
}

long bpf_xdp_load_bytes(struct xdp_md *ctx, __u32 offset, void *bytes, __u32 length)
{
	if ((__u64)offset + length > bpf_xdp_get_buff_len(ctx))
		return -EINVAL;
	for (__u32 i = 0; i < length; i++)
		((__u8 *)bytes)[i] = *byte_at(ctx, offset + i);
	return 0;
}

long bpf_xdp_store_bytes(struct xdp_md *ctx, __u32 offset, const void *bytes, __u32 length)
{
	if ((__u64)offset + length > bpf_xdp_get_buff_len(ctx))
		return -EINVAL;
	for (__u32 i = 0; i < length; i++)
		*byte_at(ctx, offset + i) = ((const __u8 *)bytes)[i];
	return 0;
}
