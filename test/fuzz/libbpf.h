/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * Stands in the place of <bpf/bpf_helpers.h> for a program that is compiled for this machine: the
 * same macros for maps, and the functions that kernel.c answers. A function that a program begins
 * to use is added here and there.
 */
#pragma once

#include <linux/types.h>

#define SEC(name)
#define __uint(name, value) int (*name)[value]
#define __type(name, value) __typeof__(value) *name
#define __array(name, value) __typeof__(value) *name[]
#undef __always_inline
#define __always_inline inline __attribute__((always_inline))
#undef __noinline
#define __noinline __attribute__((noinline))
#ifndef __weak
#define __weak __attribute__((weak))
#endif

struct xdp_md;
struct bpf_sock;
struct bpf_sock_tuple;
struct bpf_fib_lookup;

void *bpf_map_lookup_elem(const void *map, const void *key);
long bpf_map_update_elem(const void *map, const void *key, const void *value, __u64 flags);
long bpf_map_delete_elem(const void *map, const void *key);
long bpf_check_mtu(void *ctx, __u32 ifindex, __u32 *mtu, __s32 difference, __u64 flags);
struct bpf_sock *bpf_skc_lookup_tcp(void *ctx, struct bpf_sock_tuple *tuple, __u32 size, __u64 netns,
				    __u64 flags);
long bpf_sk_release(void *socket);
long bpf_tcp_check_syncookie(void *listener, void *ip, __u32 ip_length, void *tcp, __u32 tcp_length);
long bpf_fib_lookup(void *ctx, struct bpf_fib_lookup *way, int size, __u32 flags);
long bpf_redirect(__u32 ifindex, __u64 flags);
long bpf_redirect_map(const void *map, __u64 key, __u64 flags);
long bpf_xdp_adjust_head(struct xdp_md *ctx, int delta);
long bpf_xdp_adjust_tail(struct xdp_md *ctx, int delta);
__u64 bpf_xdp_get_buff_len(struct xdp_md *ctx);
long bpf_xdp_load_bytes(struct xdp_md *ctx, __u32 offset, void *bytes, __u32 length);
long bpf_xdp_store_bytes(struct xdp_md *ctx, __u32 offset, const void *bytes, __u32 length);
__u64 bpf_ktime_get_ns(void);
__u64 bpf_ktime_get_coarse_ns(void);
__u32 bpf_get_prandom_u32(void);
__u32 bpf_get_smp_processor_id(void);
long bpf_loop(__u32 rounds, void *callback, void *context, __u64 flags);
__s64 bpf_csum_diff(const __be32 *from, __u32 from_size, const __be32 *to, __u32 to_size,
		    __u32 seed);
