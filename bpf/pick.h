/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Which backend gets a new flow of a service that picks: in turn, by chance, or by how many flows backends have.
 * Knows the service's version, its ring, loads and draws; knows no packet. src/model/pick.ts is its twin, in the
 * same order, and says where the rules come from.
 */
#pragma once

#include "destination.h"
#include "load.h"
#include "slot.h"

/* As in pick.ts. */
enum { SCANNED_MAX = 256, CHOICES_DRAWN_MAX = 4, BOUNDED_DRAWS_MAX = 256 };

/* Whoever has a slot; id 0: nobody. */
struct candidate {
	__u64 load;
	__u32 weight;
	__u32 id;
};

/* The finaliser of MurmurHash3, as mix() in src/model/lending.ts. */
static __always_inline __u32 mix_word(__u32 h)
{
	h = (h ^ h >> 16) * 0x85ebca6b;
	h = (h ^ h >> 13) * 0xc2b2ae35;
	return h ^ h >> 16;
}

#define GOLDEN_STEP 0x9e3779b9u

static __always_inline __u32 redraw(__u32 draw)
{
	return mix_word(draw + GOLDEN_STEP);
}

/* lendingDraw() */
static __always_inline __u32 lending_draw(__u32 slot, __u32 word)
{
	return mix_word(mix_word(slot + GOLDEN_STEP) + word * GOLDEN_STEP);
}

/* 32 bits of SplitMix64 (Steele, Lea, Flood, OOPSLA 2014). A packet that does not get away has drawn too: or all that
 * follow would draw the backend without a next hop again. */
static __always_inline __u32 next_draw(struct pick_state *state, __u32 turns)
{
	__u64 z = state->random;

	if (!z) {
		z = (__u64)bpf_get_prandom_u32() << 32 | bpf_get_prandom_u32();
		/* CPUs that all begin with the first would send it too much. */
		state->turn = slot_of(bpf_get_prandom_u32(), turns);
	}
	z += 0x9e3779b97f4a7c15;
	state->random = z;
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
	z = (z ^ z >> 27) * 0x94d049bb133111eb;
	return (z ^ z >> 31) >> 32;
}

static __always_inline void look_at(const struct service_version *version, __u64 slot,
				    struct candidate *found)
{
	const struct destination *destination;

	found->id = word_at(&version->scheme, slot) & SLOT_BACKEND_MASK;
	destination = bpf_map_lookup_elem(&destinations, &found->id);
	if (!is_given(destination)) {
		found->id = 0;
		return;
	}
	found->weight = destination->pick_weight ?: 1;
	found->load = load_of(found->id);
}

/* With one flow more than now, for its weight. */
static __always_inline bool is_less(const struct candidate *a, const struct candidate *b)
{
	return (a->load + 1) * b->weight < (b->load + 1) * a->weight;
}

static __always_inline __u32 pick_in_turn(const struct service_version *version,
					  struct pick_state *state)
{
	__u32 turns = version->turns, turn = state->turn < turns ? state->turn : 0;

	state->turn = turn + 1 < turns ? turn + 1 : 0;
	return word_at(&version->scheme, turn) & SLOT_BACKEND_MASK;
}

static __always_inline __u32 pick_of_two(const struct service_version *version, __u32 draw)
{
	__u32 size = version->scheme.ring_size;
	struct candidate first, second;

	look_at(version, slot_of(draw, size), &first);
	for (int drawn = 0; drawn < CHOICES_DRAWN_MAX; drawn++) {
		draw = redraw(draw);
		look_at(version, slot_of(draw, size), &second);
		if (!second.id || second.id == first.id)
			continue;
		return !first.id || is_less(&second, &first) ? second.id : first.id;
	}
	return first.id;
}

/* One look at many backends, of the packet at hand. Not on the stack: what a callback of bpf_loop() finds there Linux
 * 6.18 takes for what it was at the first round, and cuts off the comparison with what comes later as dead code. */
struct scan {
	struct candidate best;
	struct candidate found;
	__u64 total;            /* flows of all backends */
	__u32 element;          /* of the version */
	__u32 start;            /* where in the roll; or the slot of the hash */
};

struct {
	__uint(type, BPF_MAP_TYPE_PERCPU_ARRAY);
	__type(key, __u32);
	__type(value, struct scan);
	__uint(max_entries, 1);
} pick_scans SEC(".maps");

static __always_inline struct scan *the_scan(void)
{
	__u32 only = 0;

	return bpf_map_lookup_elem(&pick_scans, &only);
}

/* Whether what was found is better than what was found before. */
static __always_inline bool is_better(const struct scan *scan)
{
	return scan->found.id && (!scan->best.id || is_less(&scan->found, &scan->best));
}

static long scan_step(__u32 step)
{
	struct scan *scan = the_scan();
	const struct service_version *version;
	__u32 slot;

	if (!scan)
		return 1;
	version = bpf_map_lookup_elem(&service_versions, &scan->element);
	if (!version)
		return 1;
	slot = scan->start + step;
	look_at(version, slot < version->turns ? slot : slot - version->turns, &scan->found);
	if (is_better(scan))
		scan->best = scan->found;
	return 0;
}

static __always_inline __u32 pick_least(const struct service_version *version, struct scan *scan,
					__u32 draw)
{
	__u32 turns = version->turns;

	scan->start = slot_of(draw, turns);
	bpf_loop(turns < SCANNED_MAX ? turns : SCANNED_MAX, scan_step, NULL, 0);
	return scan->best.id;
}

/* load < factor × (total + 1) × weight ÷ sum of weights, exactly: with 2^26 flows (limits.flows) and weights of
 * 2^31 together both products fit in 64 bits. */
static __always_inline bool has_room(const struct service_version *version,
				     const struct candidate *one, __u64 total)
{
	return one->load * version->weight_total * 100 <
	       (total + 1) * one->weight * version->load_factor_percent;
}

static long bounded_step(__u32 k)
{
	struct scan *scan = the_scan();
	const struct service_version *version;
	__u32 size;

	if (!scan)
		return 1;
	version = bpf_map_lookup_elem(&service_versions, &scan->element);
	if (!version)
		return 1;
	size = version->scheme.ring_size;
	if (!size)
		return 1;
	look_at(version, k == 0 ? scan->start : lending_draw(scan->start, k) % size, &scan->found);
	if (scan->found.id && has_room(version, &scan->found, scan->total)) {
		scan->best = scan->found;
		return 1;
	}
	if (is_better(scan))
		scan->best = scan->found;
	return 0;
}

static __always_inline __u32 pick_bounded(const struct service_version *version, struct scan *scan,
					  __u32 hash)
{
	__u32 at = version->flows_at;

	scan->start = slot_of(hash, version->scheme.ring_size);
	scan->total = at_least_none(bpf_map_lookup_elem(&service_flows, &at));
	bpf_loop(BOUNDED_DRAWS_MAX + 1, bounded_step, NULL, 0);
	return scan->best.id;
}

/* The id of the backend that a new flow with this hash gets; 0: nobody. `element`: of the version that counts.
 * Not static: the verifier then checks it once and by itself. */
__noinline int pick(__u32 element, __u32 hash)
{
	const struct service_version *version = bpf_map_lookup_elem(&service_versions, &element);
	__u32 service = element / 2, draw;
	struct pick_state *state = bpf_map_lookup_elem(&pick_states, &service);
	struct scan *scan = the_scan();

	if (!version || !state || !scan || version->scheme.ring_size == 0)
		return 0;
	scan->best.id = 0;
	scan->element = element;
	draw = next_draw(state, version->turns);
	switch (version->pick) {
	case PICK_ROUND_ROBIN:
		return pick_in_turn(version, state);
	case PICK_LEAST_CONNECTIONS:
		return pick_least(version, scan, draw);
	case PICK_POWER_OF_TWO:
		return pick_of_two(version, draw);
	case PICK_BOUNDED_LOAD:
		return pick_bounded(version, scan, hash);
	default:
		return word_in_ring(&version->scheme, draw) & SLOT_BACKEND_MASK;
	}
}
