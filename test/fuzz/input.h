/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * An input of the fuzzer: twelve bytes that choose the world and the driver, then one frame or two.
 * Knows how they are laid out (test/fuzz/inputs.ts writes the same) and how a program is run on
 * them; the target says what to run and how to judge. generated.h lists its maps and switches.
 */
#pragma once

#include "judge.h"
#include "generated.h"

#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CONTROL_BYTES = 12, FRAME_MAX = 1 << 17, HEAD_ROOM = 256 };
/* A clock that is not near zero, and what it moves on between two frames of one input. */
#define NOW_NS 10000000000000ull
#define TICK_NS 700000000ull

struct control {
	__u8 world;
	__u8 switched;          /* 0: as compiled; else this switch is the other way round */
	__u8 room;              /* with the top bit: so much head-room; else what drivers give */
	__u8 failing;           /* bit 0: updates of maps fail */
	__u8 later;             /* ticks between the frames */
	__u8 random;
	__le16 linear;          /* of the whole, modulo its length, in the linear part; 0: all */
	__le16 zeros;           /* appended to each frame */
	__le16 split;           /* where the second frame begins; 0: the first one comes again */
};
_Static_assert(sizeof(struct control) == CONTROL_BYTES, "no padding");

/* The target's: runs the program, judges what became of the frame. */
static void try_frame(struct frame *frame, const struct view *before);

static __u8 *whole;             /* of the frame, before and after */
static __u8 *afterwards;

static struct view view_after(const struct frame *frame)
{
	copy_frame(frame, afterwards);
	return view_frame(afterwards, frame_length(frame));
}

/* Switches are constants for the compiler, and on pages that may be read only. */
static void turn_switch(__u8 number)
{
	const volatile bool *found = switches[(number - 1) % SWITCHES];

	*(bool *)(uintptr_t)found = !*found;
}

static void open_switches(void)
{
	uintptr_t page = sysconf(_SC_PAGESIZE);

	for (__u32 i = 0; i < SWITCHES; i++)
		if (mprotect((void *)((uintptr_t)switches[i] & ~(page - 1)), page, PROT_READ | PROT_WRITE))
			complain("the switches cannot be turned");
}

static void try_bytes(const __u8 *bytes, __u32 length, const struct control *control)
{
	__u32 total = length + control->zeros, linear = total;
	__u32 room = control->room & 0x80 ? control->room & 0x7f : HEAD_ROOM;
	struct frame frame;
	struct view before;

	memcpy(whole, bytes, length);
	memset(whole + length, 0, control->zeros);
	/* A driver puts at least the link-layer header into the linear part. */
	if (control->linear && total > 14)
		linear = 14 + control->linear % (total - 14);
	before = view_frame(whole, total);
	make_frame(&frame, whole, total, linear, room);
	try_frame(&frame, &before);
	free_frame(&frame);
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerInitialize(int *argc __attribute__((unused)), char ***argv __attribute__((unused)))
{
	make_worlds(maps, MAPS, worlds, WORLDS);
	open_switches();
	whole = malloc(FRAME_MAX);
	afterwards = malloc(FRAME_MAX);
	if (!whole || !afterwards)
		complain("out of memory");
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct control control;
	__u32 length = size - CONTROL_BYTES, split;

	if (size < CONTROL_BYTES || length + 0xffff > FRAME_MAX - HEAD_ROOM)
		return 0;
	memcpy(&control, data, CONTROL_BYTES);
	data += CONTROL_BYTES;
	choose_world(control.world % WORLDS);
	answers.now_ns = NOW_NS;
	answers.random = control.random * 0x01010101u;
	answers.updates_fail = control.failing & 1;
	if (control.switched)
		turn_switch(control.switched);
	split = control.split < length ? control.split : length;
	try_bytes(data, split ? split : length, &control);
	answers.now_ns += control.later * TICK_NS;
	try_bytes(data + split, length - split, &control);
	if (control.switched)
		turn_switch(control.switched);
	restore_world();
	return 0;
}
