/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Code that a plan lets be mapped for what it is, by inode: its content was hashed at admission,
 * and nobody writes to it since. Its path says nothing.
 */
#ifndef CARTOUCHE_PINNED_BPF_H
#define CARTOUCHE_PINNED_BPF_H

#include "identity.bpf.h"
#include "label.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, GRANTS_MAX);
	__type(key, struct code_key);
	__type(value, struct rule);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} pinned_code SEC(".maps");

/* 1: the bearer's plan names this very file. A function of its own, for the sake of the stack. */
__noinline int is_pinned_code(const struct bearer *bearer, __u64 inode)
{
	struct code_key key = {};
	struct rule *rule;

	if (!bearer || !(bearer->flags & PLAN_PINNED_CODE) || !in_force(bearer))
		return 0;
	key_of(inode, &key.file);
	key.plan = bearer->plan;
	rule = bpf_map_lookup_elem(&pinned_code, &key);
	if (!rule)
		return 0;
	__sync_fetch_and_add(&rule->used, 1);
	return 1;
}

#endif
