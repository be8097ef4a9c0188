// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain network: cgroup programs at the root. MSG_FASTOPEN reaches no LSM connect hook, addressed
 * datagrams no other hook that outsiders do not pay. No task storage here: the label comes from the
 * mirror.
 */
#include "endpoint.bpf.h"
#include "grant.bpf.h"

static __always_inline bool told_before(struct bpf_sock_addr *ctx)
{
	struct bpf_sock *sk = ctx->sk;

	return sk && !bpf_sk_storage_delete(&told, sk);
}

/* cgroup programs answer 1 for yes and 0 for EPERM. */
static __always_inline int judge_sockaddr(struct bpf_sock_addr *ctx, struct endpoint *endpoint)
{
	struct attempt attempt = {};
	struct bearer bearer;

	if (!mirrored_subject(&bearer))
		return 1;
	endpoint->direction = NET_CONNECT;
	endpoint->protocol = ctx->protocol;
	endpoint->port = __builtin_bswap16(ctx->user_port);
	if (endpoint->protocol == IPPROTO_TCP || endpoint->protocol == IPPROTO_UDP) {
		if (in_force(&bearer) && endpoint_allowed(&bearer, endpoint))
			return 1;
	} else if (granted_socket(&bearer, ctx->family, endpoint->protocol)) {
		return 1;
	}
	if (bearer.mode == MODE_AUDIT && told_before(ctx))
		return 1;
	fill_attempt(&attempt, endpoint);
	return !tell(&bearer, &attempt, NULL);
}

static __always_inline int judge_v4(struct bpf_sock_addr *ctx)
{
	struct endpoint endpoint = {};

	map_v4(endpoint.address, ctx->user_ip4);
	return judge_sockaddr(ctx, &endpoint);
}

static __always_inline int judge_v6(struct bpf_sock_addr *ctx)
{
	struct endpoint endpoint = {};
	__u32 word;

	/* one by one: the verifier takes no other access to these words */
#pragma unroll
	for (word = 0; word < 4; word++) {
		__u32 value = *(volatile __u32 *)&ctx->user_ip6[word];

		__builtin_memcpy(endpoint.address + 4 * word, &value, sizeof(value));
	}
	return judge_sockaddr(ctx, &endpoint);
}

SEC("cgroup/connect4")
int connect4(struct bpf_sock_addr *ctx)
{
	if (outside())
		return 1;
	return judge_v4(ctx) ? 1 : 0;
}

SEC("cgroup/connect6")
int connect6(struct bpf_sock_addr *ctx)
{
	if (outside())
		return 1;
	return judge_v6(ctx) ? 1 : 0;
}

/*
 * Whether a datagram needs no judgement of its address. A connected socket's comes here too if it
 * has control messages, and without an address: its peer was judged by connect(). The kernel itself
 * refuses port 0 in an address.
 */
static __always_inline bool names_nobody(struct bpf_sock_addr *ctx)
{
	return !ctx->user_port;
}

SEC("cgroup/sendmsg4")
int sendmsg4(struct bpf_sock_addr *ctx)
{
	struct bearer bearer;

	if (outside() || !mirrored_subject(&bearer))
		return 1;
	if (takes_route(&bearer))
		return 0;
	return names_nobody(ctx) || judge_v4(ctx) ? 1 : 0;
}

SEC("cgroup/sendmsg6")
int sendmsg6(struct bpf_sock_addr *ctx)
{
	struct bearer bearer;

	if (outside() || !mirrored_subject(&bearer))
		return 1;
	if (takes_route(&bearer))
		return 0;
	return names_nobody(ctx) || judge_v6(ctx) ? 1 : 0;
}
