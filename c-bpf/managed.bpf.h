/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What tasks outside may not run and map: anything at a managed path that no artifact admits, and
 * an admitted program past its execve, as ld.so would. Who is labelled has an envelope that says
 * it.
 */
#ifndef CARTOUCHE_MANAGED_BPF_H
#define CARTOUCHE_MANAGED_BPF_H

#include "identity.bpf.h"
#include "rule.bpf.h"

/* 1: nothing runs there unadmitted, or its path cannot be told, which is no way out. */
__noinline int is_managed(__u64 dentry, __u64 mount)
{
	struct bearer outsiders = {};
	struct file_rule *rule;
	struct scratch *scratch;
	__u32 leaf = 0, mask;
	int at;

	read_slot(&outsiders);
	if (!(outsiders.flags & PLAN_MANAGED) || internal_mount(mount))
		return 0;
	scratch = scratch_of_current();
	if (!scratch)
		return 1;
	at = walk_path(scratch, dentry, mount, &leaf);
	if (at < 0)
		return 1;
	at &= WALK_MAX - 1;
	rule = find_rule(&outsiders, scratch, at);
	if (!rule)
		return 0;
	mask = is_deep(rule, at, leaf) ? rule->deep_mask : rule->near_mask;
	return mask & BIT(RIGHT_EXEC) ? 1 : 0;
}

/*
 * Says that a task outside may not run or map a file: on behalf of whose program it is, or of
 * nobody. 0 where that is only told.
 */
__noinline int refuse_outsider(__u32 slot, __u32 operation, __u32 reason, __u64 dentry, __u64 mount)
{
	struct attempt attempt = {
		.domain = DOMAIN_EXEC,
	};
	struct bearer bearer = {.slot = slot};

	attempt.operation = operation;
	attempt.reason = reason;
	read_slot(&bearer);
	name_object(&attempt, dentry, mount);
	return refuse(&bearer, &attempt);
}

/* A task outside maps a file executable, which everybody does a few times at each start. -EPERM or
 * 0. */
__noinline int judge_outsider(__u64 address)
{
	struct file *file = (void *)address;
	struct subject_key key = {};
	struct bearer owner = {};
	struct location where;
	struct subject *entry;

	key_of((__u64)BPF_CORE_READ(file, f_inode), &key);
	entry = bpf_map_lookup_elem(&subjects, &key);
	if (entry && (entry->flags & SUBJECT_EXAMINED))
		entry = NULL;
	if (entry) {
		owner.slot = entry->slot;
		if (entry->flags & SUBJECT_CODE) {
			read_slot(&owner);
			if (in_force(&owner))
				return 0;
		} else if (!own_executable(address)) {
			where = location_of(&file->f_path);
			return refuse_outsider(owner.slot, RIGHT_LOAD, REASON_BY_LOADER,
					       where.dentry, where.mount)
				       ? -EPERM
				       : 0;
		}
	}
	where = location_of(&file->f_path);
	if (!is_managed(where.dentry, where.mount) || own_executable(address))
		return 0;
	return refuse_outsider(0, RIGHT_LOAD, REASON_MANAGED, where.dentry, where.mount) ? -EPERM
											 : 0;
}

#endif
