/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Asks a plan about an endpoint: one hash for single endpoints, a list per plan for networks and
 * ranges of ports. IPv4 is v4-mapped IPv6. Without a rule: denied.
 */
#ifndef CARTOUCHE_ENDPOINT_BPF_H
#define CARTOUCHE_ENDPOINT_BPF_H

#include "report.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1 << 20);
	__type(key, struct net_key);
	__type(value, struct rule);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} net_rules SEC(".maps");

struct range_list {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_INNER_MAP);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(__u32));
	__uint(value_size, sizeof(struct net_range));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, PLANS_MAX);
	__type(key, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__array(values, struct range_list);
} net_ranges SEC(".maps");

/* An endpoint to be judged. No pointers, no padding. */
struct endpoint {
	__u8 address[16];
	__u16 port;	/* host order */
	__u8 direction; /* enum net_direction */
	__u8 protocol;
	__u8 uncounted; /* the same use is judged and counted once more */
	__u8 pad[3];
};

struct scan {
	__u64 address[2];
	void *ranges;
	__u32 allowed;
	__u16 port;
	__u8 direction;
	__u8 protocol;
	__u8 uncounted;
};

static long scan_step(__u64 index, struct scan *scan)
{
	__u32 key = index;
	struct net_range *range = bpf_map_lookup_elem(scan->ranges, &key);

	if (!range || !range->protocol)
		return 1;
	if (range->protocol != scan->protocol || range->direction != scan->direction ||
	    scan->port < range->port_first || scan->port > range->port_last ||
	    (scan->address[0] & range->mask[0]) != range->address[0] ||
	    (scan->address[1] & range->mask[1]) != range->address[1])
		return 0;
	if (!scan->uncounted)
		__sync_fetch_and_add(&range->used, 1);
	scan->allowed = 1;
	return 1;
}

static __always_inline bool endpoint_allowed(const struct bearer *bearer,
					     const struct endpoint *endpoint)
{
	struct net_key key = {
		.plan = bearer->plan,
		.direction = endpoint->direction,
		.protocol = endpoint->protocol,
		.port = endpoint->port,
	};
	struct rule *rule;
	struct scan scan = {};
	__u32 plan = bearer->plan;

	__builtin_memcpy(key.address, endpoint->address, sizeof(key.address));
	rule = bpf_map_lookup_elem(&net_rules, &key);
	if (rule) {
		if (!endpoint->uncounted)
			__sync_fetch_and_add(&rule->used, 1);
		return true;
	}
	scan.ranges = bpf_map_lookup_elem(&net_ranges, &plan);
	if (!scan.ranges)
		return false;
	__builtin_memcpy(scan.address, endpoint->address, sizeof(scan.address));
	scan.port = endpoint->port;
	scan.direction = endpoint->direction;
	scan.protocol = endpoint->protocol;
	scan.uncounted = endpoint->uncounted;
	bpf_loop(NET_RANGES_MAX, scan_step, &scan, 0);
	return scan.allowed;
}

static __always_inline void fill_attempt(struct attempt *attempt, const struct endpoint *endpoint)
{
	attempt->domain = DOMAIN_NETWORK;
	attempt->operation = endpoint->direction == NET_LISTEN ? OP_NET_LISTEN : OP_NET_CONNECT;
	attempt->object_kind = OBJECT_ENDPOINT;
	attempt->protocol = endpoint->protocol;
	attempt->port = endpoint->port;
	__builtin_memcpy(attempt->address, endpoint->address, sizeof(attempt->address));
}

enum answer {
	ALLOWED = 0,
	WOULD_DENY = 1, /* audit mode: told, not refused */
};

/* An enum answer; else -EPERM, told and counted. */
__noinline int judge_endpoint(const struct bearer *bearer, const struct endpoint *endpoint)
{
	struct attempt attempt = {};

	if (!bearer || !endpoint)
		return -EPERM;
	if (in_force(bearer) && endpoint_allowed(bearer, endpoint))
		return ALLOWED;
	fill_attempt(&attempt, endpoint);
	return refuse(bearer, &attempt) ? -EPERM : WOULD_DENY;
}

#endif
