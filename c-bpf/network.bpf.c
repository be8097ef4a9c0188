// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain network: which sockets a subject may make, where it may connect and send, what it may
 * serve. Without a rule a subject is refused.
 */
#include "endpoint.bpf.h"
#include "grant.bpf.h"
#include "unix.bpf.h"

/*
 * Sockets of which socket_connect has told in audit mode: the cgroup program that comes next for
 * the same connect() is silent. What never passed socket_connect (fast open) it tells.
 */
struct {
	__uint(type, BPF_MAP_TYPE_SK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
} told SEC(".maps");

static __always_inline void map_v4(__u8 *address, __u32 v4)
{
	__builtin_memset(address, 0, 10);
	address[10] = 0xff;
	address[11] = 0xff;
	__builtin_memcpy(address + 12, &v4, sizeof(v4));
}

/* The address as user space gave it, by its own family: an IPv6 socket also takes IPv4 ones. */
static __always_inline int read_address(__u64 sockaddr, int length, __u16 unspecified,
					struct endpoint *endpoint)
{
	struct {
		__u16 family;
		__u16 port;
		__u32 word; /* IPv4 address, or flow label */
		__u8 v6[16];
	} raw = {};

	if (length < 2 || bpf_probe_read_kernel(&raw, 8, (void *)sockaddr))
		return -1;
	if (raw.family == AF_UNSPEC)
		raw.family = unspecified;
	if (raw.family == AF_INET) {
		map_v4(endpoint->address, raw.word);
	} else if (raw.family == AF_INET6) {
		if (length < 24 || bpf_probe_read_kernel(&raw, sizeof(raw), (void *)sockaddr))
			return -1;
		__builtin_memcpy(endpoint->address, raw.v6, 16);
	} else {
		return -1;
	}
	endpoint->port = __builtin_bswap16(raw.port);
	return 0;
}

static __always_inline bool is_inet(__u16 family)
{
	return family == AF_INET || family == AF_INET6;
}

static __always_inline int refuse_option(const struct bearer *bearer, __u32 option)
{
	struct attempt attempt = {
		.domain = DOMAIN_NETWORK,
		.operation = OP_NET_CONNECT,
		.reason = REASON_NEVER,
		.object_kind = OBJECT_NUMBER,
	};

	attempt.number = option;
	return refuse(bearer, &attempt);
}

static __always_inline int refuse_socket(const struct bearer *bearer, __u16 family, __u16 protocol,
					 __u16 kind)
{
	struct attempt attempt = {
		.domain = DOMAIN_NETWORK,
		.operation = OP_NET_SOCKET,
		.object_kind = OBJECT_NUMBER,
	};

	attempt.number = (__u32)family << 16 | protocol;
	attempt.kind = kind;
	return refuse(bearer, &attempt) ? -EPERM : 0;
}

/* Whether endpoints of net:connect and net:listen speak of such a socket: then they decide. */
static __always_inline bool has_endpoints(int family, int type, int protocol)
{
	if (!is_inet(family))
		return false;
	return (type == SOCK_STREAM && (protocol == 0 || protocol == IPPROTO_TCP)) ||
	       (type == SOCK_DGRAM && (protocol == 0 || protocol == IPPROTO_UDP));
}

SEC("lsm/socket_create")
int BPF_PROG(socket_create, int family, int type, int protocol, int kern)
{
	struct bearer bearer;

	if (!subject(&bearer))
		return 0;
	/* the kernel's own, such as MPTCP's subflows on 6.1 */
	if (kern)
		return 0;
	type &= 0xf;
	if (family == AF_UNIX && in_force(&bearer))
		return 0;
	if (has_endpoints(family, type, protocol)) {
		if (in_force(&bearer) && (type == SOCK_STREAM || (bearer.flags & PLAN_UDP)))
			return 0;
	} else if (granted_socket(&bearer, family, protocol)) {
		return 0;
	}
	return refuse_socket(&bearer, family, protocol, type) ? -EPERM : 0;
}

SEC("lsm/socket_post_create")
int BPF_PROG(socket_post_create, struct socket *sock, int family, int type, int protocol, int kern)
{
	struct bearer bearer;
	struct sock *sk;
	__u32 *slot;

	if (kern)
		return 0;
	if (!subject(&bearer))
		return 0;
	sk = sock->sk;
	if (!sk)
		return 0;
	slot = bpf_sk_storage_get(&socket_slots, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	if (slot)
		*slot = bearer.slot;
	/* without a mark its own peers are refused as strangers: closed, not open */
	return 0;
}

/* What endpoints call the protocol of a socket; 0 for what they do not speak of. */
static __always_inline __u8 protocol_of(struct sock *sk, __u16 family)
{
	__u16 type = BPF_CORE_READ(sk, sk_type);

	if (!is_inet(family))
		return 0;
	switch (BPF_CORE_READ(sk, sk_protocol)) {
	case IPPROTO_TCP:
		return type == SOCK_STREAM ? IPPROTO_TCP : 0;
	case IPPROTO_MPTCP:
		return IPPROTO_TCP;
	case IPPROTO_UDP:
		return type == SOCK_DGRAM ? IPPROTO_UDP : 0;
	}
	return 0;
}

/* A socket that endpoints do not speak of: it is used by whom it is granted to. */
__noinline int judge_other_socket(const struct bearer *bearer, __u64 address)
{
	struct sock *sk = (void *)address;
	__u16 family, protocol;

	if (!bearer)
		return -EPERM;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	protocol = BPF_CORE_READ(sk, sk_protocol);
	/* a packet socket's protocol is in network order, and bind() changes it */
	if (granted_socket(bearer, family, protocol))
		return 0;
	return refuse_socket(bearer, family, protocol, BPF_CORE_READ(sk, sk_type));
}

SEC("lsm/socket_connect")
int BPF_PROG(socket_connect, struct socket *sock, struct sockaddr *address, int length)
{
	struct endpoint endpoint = {.direction = NET_CONNECT, .uncounted = 1};
	struct bearer bearer;
	struct sock *sk;
	__u16 family = 0;
	int answer;

	if (!subject(&bearer))
		return 0;
	sk = sock->sk;
	if (!sk)
		return refuse_socket(&bearer, 0, 0, 0) ? -EPERM : 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family == AF_UNIX)
		return 0; /* unix_stream_connect, unix_may_send */
	endpoint.protocol = protocol_of(sk, family);
	if (!endpoint.protocol)
		return judge_other_socket(&bearer, address_of(sk)) ? -EPERM : 0;
	bpf_probe_read_kernel(&family, sizeof(family), address);
	if (family == AF_UNSPEC && in_force(&bearer))
		return 0; /* disconnects */
	if (read_address(address_of(address), length, AF_UNSPEC, &endpoint))
		return refuse_socket(&bearer, family, 0, 0) ? -EPERM : 0;
	answer = judge_endpoint(&bearer, &endpoint);
	if (answer < 0)
		return -EPERM;
	if (answer == WOULD_DENY)
		bpf_sk_storage_get(&told, sk, NULL, BPF_SK_STORAGE_GET_F_CREATE);
	return 0;
}

SEC("lsm/socket_bind")
int BPF_PROG(socket_bind, struct socket *sock, struct sockaddr *address, int length)
{
	struct endpoint endpoint = {.direction = NET_LISTEN};
	struct bearer bearer;
	struct sock *sk;
	__u16 family;

	if (!subject(&bearer))
		return 0;
	sk = sock->sk;
	if (!sk)
		return refuse_socket(&bearer, 0, 0, 0) ? -EPERM : 0;
	family = BPF_CORE_READ(sk, __sk_common.skc_family);
	if (family == AF_UNIX)
		return judge_bound_name(address_of(address), length) ? -EPERM : 0;
	endpoint.protocol = protocol_of(sk, family);
	if (!endpoint.protocol)
		return judge_other_socket(&bearer, address_of(sk)) ? -EPERM : 0;
	/* AF_UNSPEC on an IPv4 socket means INADDR_ANY */
	if (read_address(address_of(address), length, AF_INET, &endpoint))
		return refuse_socket(&bearer, family, 0, 0) ? -EPERM : 0;
	/* a port of the kernel's choice serves nobody until listen(), which is asked again */
	if (!endpoint.port && in_force(&bearer) && (bearer.flags & PLAN_NET_ANY))
		return 0;
	return judge_endpoint(&bearer, &endpoint) < 0 ? -EPERM : 0;
}

/* The socket's own end: what it is bound to, or nothing yet. */
static __always_inline int judge_local(struct bearer *bearer, struct sock *sk)
{
	struct endpoint endpoint = {.direction = NET_LISTEN};
	__u16 family = BPF_CORE_READ(sk, __sk_common.skc_family);

	if (family == AF_UNIX && in_force(bearer))
		return 0;
	endpoint.protocol = protocol_of(sk, family);
	if (!endpoint.protocol)
		return judge_other_socket(bearer, address_of(sk));
	endpoint.port = BPF_CORE_READ(sk, __sk_common.skc_num);
	if (family == AF_INET)
		map_v4(endpoint.address, BPF_CORE_READ(sk, __sk_common.skc_rcv_saddr));
	else
		BPF_CORE_READ_INTO(&endpoint.address, sk, __sk_common.skc_v6_rcv_saddr);
	return judge_endpoint(bearer, &endpoint);
}

SEC("lsm/socket_listen")
int BPF_PROG(socket_listen, struct socket *sock, int backlog)
{
	struct bearer bearer;
	struct sock *sk;

	if (!subject(&bearer))
		return 0;
	sk = sock->sk;
	if (!sk)
		return refuse_socket(&bearer, 0, 0, 0) ? -EPERM : 0;
	return judge_local(&bearer, sk) < 0 ? -EPERM : 0;
}

SEC("lsm/socket_accept")
int BPF_PROG(socket_accept, struct socket *sock, struct socket *newsock)
{
	struct bearer bearer;
	struct sock *sk;

	if (!subject(&bearer))
		return 0;
	sk = sock->sk;
	if (!sk)
		return refuse_socket(&bearer, 0, 0, 0) ? -EPERM : 0;
	return judge_local(&bearer, sk) < 0 ? -EPERM : 0;
}

/* One object and one translation unit, as maps and global functions are shared. */
#include "route.bpf.c"
#include "cgroup.bpf.c"

char LICENSE[] SEC("license") = "GPL";
