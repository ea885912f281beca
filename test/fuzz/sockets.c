/* SPDX-License-Identifier: (GPL-2.0-only OR Apache-2.0)
 *
 * The stand-in for the kernel's sockets and routes (kernel.h). Knows what Linux says of them to a program;
 * which there are follows from the input.
 */
#include "kernel.h"
#include "libbpf.h"

#include <errno.h>
#include <string.h>

/* What is found follows from the input: which socket, whether a cookie is right, which way. */
enum { SOCKET_MASK = 3, COOKIE_BIT = 4, WAY_SHIFT = 3, WAY_MASK = 3 };
static const __u32 socket_states[] = { 0, BPF_TCP_LISTEN, BPF_TCP_ESTABLISHED, BPF_TCP_TIME_WAIT };
static struct bpf_sock held_socket;
static __u32 sockets_held;

__u32 held_sockets(void)
{
	return sockets_held;
}

static void look_at(const void *bytes, __u32 length)
{
	for (__u32 i = 0; i < length; i++)
		(void)*((const volatile __u8 *)bytes + i);
}

struct bpf_sock *bpf_skc_lookup_tcp(void *ctx, struct bpf_sock_tuple *tuple, __u32 size, __u64 netns,
				    __u64 flags)
{
	__u32 state = socket_states[answers.random & SOCKET_MASK];

	if (!ctx || (size != sizeof(tuple->ipv4) && size != sizeof(tuple->ipv6)) || flags ||
	    (__s32)netns != BPF_F_CURRENT_NETNS)
		complain("a look for a socket that the kernel refuses");
	look_at(tuple, size);
	if (!state)
		return NULL;
	held_socket = (struct bpf_sock){ .state = state };
	sockets_held += 1;
	return &held_socket;
}

long bpf_sk_release(void *socket)
{
	if (socket != &held_socket || sockets_held == 0)
		complain("a socket that is not held is given back");
	sockets_held -= 1;
	return 0;
}

long bpf_tcp_check_syncookie(void *listener, void *ip, __u32 ip_length, void *tcp, __u32 tcp_length)
{
	if (listener != &held_socket || held_socket.state != BPF_TCP_LISTEN)
		return -EINVAL;
	look_at(ip, ip_length);
	look_at(tcp, tcp_length);
	return answers.random & COOKIE_BIT ? 0 : -ENOENT;
}

long bpf_fib_lookup(void *ctx, struct bpf_fib_lookup *way, int size, __u32 flags)
{
	static const int ways[] = { BPF_FIB_LKUP_RET_SUCCESS, BPF_FIB_LKUP_RET_SUCCESS,
				    BPF_FIB_LKUP_RET_NO_NEIGH, BPF_FIB_LKUP_RET_FWD_DISABLED };
	__u32 number = answers.random >> WAY_SHIFT & WAY_MASK;

	if (!ctx || size != sizeof(*way) || flags)
		return -EINVAL;
	look_at(way, size);
	way->ifindex += number;
	memset(way->smac, 0x02, sizeof(way->smac));
	memset(way->dmac, 0x06, sizeof(way->dmac));
	return ways[number];
}

long bpf_redirect(__u32 ifindex, __u64 flags)
{
	return ifindex && !flags ? XDP_REDIRECT : XDP_ABORTED;
}
