/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The stand-in for the helpers that look at no map, frame or socket: the clock, chance, sums, loops (kernel.h).
 */
#include "kernel.h"
#include "libbpf.h"

#include <errno.h>

/* What the kernel refuses to loop beyond (BPF_MAX_LOOPS). */
enum { LOOPS_MAX = 8 * 1024 * 1024 };

long bpf_loop(__u32 rounds, void *callback, void *context, __u64 flags)
{
	/* No callback of the programs takes the context. */
	long (*step)(__u32 round) = (long (*)(__u32))callback;

	if (flags || context)
		return -EINVAL;
	if (rounds > LOOPS_MAX)
		return -E2BIG;
	for (__u32 round = 0; round < rounds; round++)
		if (step(round))
			return round + 1;
	return rounds;
}

__u64 bpf_ktime_get_ns(void)
{
	return answers.now_ns;
}

__u64 bpf_ktime_get_coarse_ns(void)
{
	return answers.now_ns;
}

__u32 bpf_get_prandom_u32(void)
{
	return answers.random;
}

__u32 bpf_get_smp_processor_id(void)
{
	return 0;
}

__s64 bpf_csum_diff(const __be32 *from, __u32 from_size, const __be32 *to, __u32 to_size,
		    __u32 seed)
{
	__u64 total = seed;

	if (from_size % 4 || to_size % 4)
		return -EINVAL;
	for (__u32 i = 0; i < from_size / 4; i++)
		total += (__u32)~from[i];
	for (__u32 i = 0; i < to_size / 4; i++)
		total += to[i];
	while (total >> 32)
		total = (__u32)total + (total >> 32);
	return total;
}
