/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whether a path is claimed, and the refusal of what stands there and is not admitted. A claim is
 * looked for by where a file lies now, and by the name that it was asked for.
 */
#ifndef CARTOUCHE_CLAIM_BPF_H
#define CARTOUCHE_CLAIM_BPF_H

#include "identity.bpf.h"
#include "report.bpf.h"

/* Refuses an exec on behalf of a slot, subject or not; audit mode does not soften it. */
__noinline int refuse_exec(__u32 slot, __u32 operation, __u32 reason, __u64 dentry, __u64 mount)
{
	struct attempt attempt = {
		.domain = DOMAIN_EXEC,
		.always = 1,
	};
	struct bearer bearer = {.slot = slot};

	attempt.operation = operation;
	attempt.reason = reason;
	read_slot(&bearer);
	if (!in_force(&bearer) && reason == REASON_CONTENT)
		attempt.reason = REASON_REFUSED;
	name_object(&attempt, dentry, mount);
	refuse(&bearer, &attempt);
	return -EPERM;
}

/* The slot that claims this file's name and directory, 0 if none does. */
__noinline __u32 claimant(__u64 dentry, __u64 mount, __u32 dev)
{
	struct claim_name_key name = {.dev = dev};
	struct scratch *scratch;
	struct claim_key *key;
	struct claim *claim;
	__u32 leaf = 0, *namesake;
	int at;

	bpf_probe_read_kernel_str(name.name, sizeof(name.name),
				  BPF_CORE_READ((struct dentry *)dentry, d_name.name));
	namesake = bpf_map_lookup_elem(&claim_names, &name);
	if (!namesake)
		return 0;
	/* a claimed name on the claimed device, whose path cannot be told: refused */
	scratch = scratch_of_current();
	if (!scratch)
		return *namesake;
	at = walk_path(scratch, dentry, mount, &leaf);
	if (at < 0)
		return *namesake;
	at &= WALK_MAX - 1;
	key = (void *)&scratch->path[at] - sizeof(__u32);
	key->dev = dev;
	claim = bpf_map_lookup_elem(&claims, key);
	return claim ? claim->slot : 0;
}

/* The slot that claims this very text as a path, 0 if none does. */
__noinline __u32 claimant_of_text(__u64 text, __u32 dev)
{
	struct claim_key key = {.dev = dev};
	struct claim *claim;

	bpf_probe_read_kernel_str(key.path, sizeof(key.path), (const void *)text);
	claim = bpf_map_lookup_elem(&claims, &key);
	return claim ? claim->slot : 0;
}

/* Where the current task's / lies: WALK_ROOT, another place in the scratch, or negative. */
__noinline int own_root(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *scratch = scratch_of_current();
	__u32 leaf = 0;

	if (!scratch)
		return -REASON_MEMORY;
	return walk_path(scratch, (__u64)BPF_CORE_READ(task, fs, root.dentry),
			 (__u64)BPF_CORE_READ(task, fs, root.mnt), &leaf);
}

/* Whether a name that begins at the current task's / means what it says: not in a chroot. */
static __always_inline bool names_are_paths(void)
{
	int at = own_root();

	return at < 0 || at == WALK_ROOT;
}

/* The slot that claims what the current task calls by this name, 0 if none does. */
__noinline __u32 claimant_of_name(__u64 name, __u32 dev)
{
	__u32 slot = claimant_of_text(name, dev);

	return slot && names_are_paths() ? slot : 0;
}

/*
 * The slot that claims the path of a file that is not what was admitted for it, 0 if there is none.
 * What is to be measured gets its scratch here, see measure.bpf.c.
 */
static __always_inline __u32 claimant_of_other(__u64 inode, __u64 dentry, __u64 mount)
{
	struct subject_key key = {};
	struct subject *subject;

	key_of(inode, &key);
	subject = subject_by_key(&key);
	if (!subject)
		return claimant(dentry, mount, key.dev);
	if (subject->flags & SUBJECT_MEASURED)
		scratch_of_current();
	return 0;
}

#endif
