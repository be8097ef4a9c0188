// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain network: source routes. They send what is addressed to one host to another one first,
 * which no rule names: refused to every subject. An option of the socket is seen by its hook; what
 * comes with a datagram only where the kernel reads its control messages, before the cgroup program
 * judges the same datagram. Datagrams without control messages pay nothing.
 */
#include "endpoint.bpf.h"

/* No program sends as many control messages with one datagram. */
#define CONTROLS_MAX 64

/* A thread that is sending by a source route. */
struct route {
	__u64 start_time; /* the thread's own: its address may be another's later */
	__u32 type;	  /* of the control message */
	__u32 pad;
};

/* By the address of the task_struct. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 4096);
	__type(key, __u64);
	__type(value, struct route);
} routes SEC(".maps");

SEC("lsm/socket_setsockopt")
int BPF_PROG(socket_setsockopt, struct socket *sock, int level, int option)
{
	struct bearer bearer;
	bool routed;

	if (outside())
		return 0;
	routed = (level == SOL_IP && option == IP_OPTIONS) ||
		 (level == SOL_IPV6 &&
		  (option == IPV6_RTHDR || option == IPV6_2292RTHDR ||
		   option == IPV6_2292PKTOPTIONS || option == IPV6_FLOWLABEL_MGR));
	/* whose rights have ended changes nothing of the sockets that it holds */
	if (!subject(&bearer) || (!routed && in_force(&bearer)))
		return 0;
	return refuse_option(&bearer, option) ? -EPERM : 0;
}

/* Control messages of one sendmsg(). */
struct controls {
	__u64 next;
	__u64 end;
	__u32 route; /* the type of one that holds a source route */
	__u32 pad;
};

static long control_step(__u64 index, struct controls *controls)
{
	struct {
		__u64 length;
		__s32 level;
		__s32 type;
	} head; /* struct cmsghdr */

	if (controls->next + sizeof(head) > controls->end)
		return 1;
	if (bpf_probe_read_kernel(&head, sizeof(head), (void *)controls->next)) {
		controls->route = IP_RETOPTS;
		return 1;
	}
	if (head.length < sizeof(head))
		return 1;
	if ((head.level == SOL_IP && head.type == IP_RETOPTS) ||
	    (head.level == SOL_IPV6 && (head.type == IPV6_RTHDR || head.type == IPV6_2292RTHDR))) {
		controls->route = head.type;
		return 1;
	}
	controls->next += (head.length + 7) & ~7ULL;
	return 0;
}

/* The kernel has taken these control messages: what it refuses itself needs no note. */
static __always_inline void note_route(const struct msghdr *message)
{
	__u64 task = address_of(bpf_get_current_task_btf());
	struct controls controls = {};
	struct route route = {};
	struct bearer bearer;

	if (!mirrored_subject(&bearer))
		return;
	controls.next = (__u64)BPF_CORE_READ(message, msg_control);
	controls.end = controls.next + BPF_CORE_READ(message, msg_controllen);
	/* what lies beyond is unknown: refused */
	if (bpf_loop(CONTROLS_MAX, control_step, &controls, 0) > CONTROLS_MAX - 1)
		controls.route = IP_RETOPTS;
	route.start_time = bpf_get_current_task_btf()->start_time;
	route.type = controls.route;
	if (!route.type)
		bpf_map_delete_elem(&routes, &task);
	else if (bpf_map_update_elem(&routes, &task, &route, BPF_ANY))
		bpf_send_signal(SIGKILL);
}

SEC("fexit/ip_cmsg_send")
int BPF_PROG(ip_cmsg_send, struct sock *sk, struct msghdr *message, void *cookie, bool allow_ipv6,
	     int result)
{
	if (!outside() && !result)
		note_route(message);
	return 0;
}

SEC("fexit/ip6_datagram_send_ctl")
int BPF_PROG(ip6_datagram_send_ctl, struct net *net, struct sock *sk, struct msghdr *message,
	     void *flow, void *cookie, int result)
{
	if (!outside() && !result)
		note_route(message);
	return 0;
}

/* Whether the datagram that this thread is sending takes a source route; told if so. */
static __always_inline bool takes_route(const struct bearer *bearer)
{
	__u64 task = address_of(bpf_get_current_task_btf());
	struct route *route = bpf_map_lookup_elem(&routes, &task);
	struct attempt attempt = {
		.domain = DOMAIN_NETWORK,
		.operation = OP_NET_CONNECT,
		.reason = REASON_NEVER,
		.object_kind = OBJECT_NUMBER,
	};

	if (!route || route->start_time != bpf_get_current_task_btf()->start_time)
		return false;
	attempt.number = route->type;
	bpf_map_delete_elem(&routes, &task);
	return tell(bearer, &attempt, NULL);
}
