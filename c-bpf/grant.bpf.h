/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Asks a plan about what is neither a path nor an endpoint: Linux capabilities, kinds of sockets,
 * powers that are one word, processes of other artifacts. One hash lookup; no entry: denied.
 */
#ifndef CARTOUCHE_GRANT_BPF_H
#define CARTOUCHE_GRANT_BPF_H

#include "label.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, GRANTS_MAX);
	__type(key, struct grant_key);
	__type(value, struct rule);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} grants SEC(".maps");

/* By the artifact's id: which slot it has, and whether any, may change while the plan is in force.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, GRANTS_MAX);
	__type(key, struct target_key);
	__type(value, struct rule);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} target_grants SEC(".maps");

/* Whose a slot is. A daemon that was killed finds here which slots it had given to whom. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SLOTS_MAX);
	__type(key, __u32);
	__type(value, struct holder);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} holders SEC(".maps");

static __always_inline bool count_grant(struct rule *rule)
{
	if (!rule)
		return false;
	__sync_fetch_and_add(&rule->used, 1);
	return true;
}

/* Whether the plan grants an operation (enum operation) on a value, see struct grant_key. */
static __always_inline bool granted(const struct bearer *bearer, __u32 operation, __u32 value)
{
	struct grant_key key = {
		.plan = bearer->plan,
		.operation = operation,
		.value = value,
	};

	return in_force(bearer) && count_grant(bpf_map_lookup_elem(&grants, &key));
}

/* Whether the plan grants an operation on processes of the artifact that has a slot. */
static __always_inline bool granted_on(const struct bearer *bearer, __u32 operation, __u32 slot)
{
	struct holder *holder = bpf_map_lookup_elem(&holders, &slot);
	struct target_key key = {
		.plan = bearer->plan,
		.operation = operation,
	};

	if (!holder || !in_force(bearer))
		return false;
	/* longer names are no ids: their last byte here is not 0, as it is in every key */
	__builtin_memcpy(key.artifact, holder->name, sizeof(key.artifact));
	return count_grant(bpf_map_lookup_elem(&target_grants, &key));
}

/* Whether the plan grants sockets of this family and protocol, or of any protocol. */
static __always_inline bool granted_socket(const struct bearer *bearer, __u16 family,
					   __u16 protocol)
{
	__u32 value = (__u32)family << 16;

	return granted(bearer, OP_NET_SOCKET, value | protocol) ||
	       granted(bearer, OP_NET_SOCKET, value | ANY_PROTOCOL);
}

#endif
