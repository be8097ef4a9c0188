/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Whose every process of a systemd unit is: by the cgroup that the system manager gives to the
 * unit, which is the one below nothing but slices.
 */
#ifndef CARTOUCHE_UNIT_BPF_H
#define CARTOUCHE_UNIT_BPF_H

#include "cartouche.h"
#include "kernel.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SLOTS_MAX);
	__type(key, struct unit_key);
	__type(value, __u32); /* slot */
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} units SEC(".maps");

/* The executables of artifacts that hold for a unit: others run them freely. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SUBJECTS_MAX);
	__type(key, struct unit_program_key);
	__type(value, __u32); /* 1 */
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} unit_programs SEC(".maps");

/* Set by the daemon while `units` has entries: spares every other exec of this machine the walk. */
__u32 has_units = 0;

/* Cgroups above each other, at most; what lies deeper is in no unit. */
#define CGROUP_DEPTH_MAX 32

static __always_inline bool is_slice(const char *name, long length)
{
	const char expected[] = ".slice";
	char tail[sizeof(expected)] = {};
	__u32 i;

	if (length <= (long)sizeof(expected))
		return false;
	bpf_probe_read_kernel(tail, sizeof(tail), name + length - sizeof(tail));
	for (i = 0; i < sizeof(expected); i++)
		if (tail[i] != expected[i])
			return false;
	return true;
}

/* The slot whose unit a cgroup belongs to, 0: none. `address` is of its kernfs_node. */
__noinline __u32 slot_by_cgroup(__u64 address)
{
	struct unit_key key = {};
	__u64 unit = 0;
	__u32 depth, *slot;

	for (depth = 0; depth < CGROUP_DEPTH_MAX; depth++) {
		struct kernfs_node *node = (void *)address;
		__u64 parent = (__u64)BPF_CORE_READ(node, parent);
		const char *name = BPF_CORE_READ(node, name);

		if (!parent)
			break;
		if (!is_slice(name, bpf_probe_read_kernel_str(key.name, sizeof(key.name), name)))
			unit = address;
		address = parent;
	}
	if (!unit || depth == CGROUP_DEPTH_MAX)
		return 0;
	__builtin_memset(&key, 0, sizeof(key));
	bpf_probe_read_kernel_str(key.name, sizeof(key.name),
				  BPF_CORE_READ((struct kernfs_node *)unit, name));
	slot = bpf_map_lookup_elem(&units, &key);
	return slot ? *slot : 0;
}

static __always_inline __u32 slot_by_unit(struct task_struct *task)
{
	if (!has_units)
		return 0;
	return slot_by_cgroup((__u64)BPF_CORE_READ(task, cgroups, dfl_cgrp, kn));
}

/*
 * Whether a file is the system manager's own, or the program with which newer ones (254 and later)
 * make the processes of units. `task` is one that PID 1 has started, or that fell to it.
 */
static __always_inline bool is_manager_s(struct task_struct *task, __u64 address)
{
	const char expected[] = "systemd-executor";
	struct dentry *dentry = (void *)address, *manager;
	char name[sizeof(expected)] = {};
	__u32 i;

	if (!dentry || BPF_CORE_READ(task, real_parent, tgid) != 1)
		return false;
	manager = BPF_CORE_READ(task, real_parent, mm, exe_file, f_path.dentry);
	if (manager == dentry)
		return true;
	if (!manager || BPF_CORE_READ(manager, d_parent) != BPF_CORE_READ(dentry, d_parent))
		return false;
	bpf_probe_read_kernel_str(name, sizeof(name), BPF_CORE_READ(dentry, d_name.name));
	for (i = 0; i < sizeof(expected); i++)
		if (name[i] != expected[i])
			return false;
	return true;
}

/*
 * Whether a process of a unit is still being made: between the fork and its program the system
 * manager mounts and does more that an envelope would refuse.
 */
static __always_inline bool is_being_made(struct task_struct *task)
{
	return is_manager_s(task, (__u64)BPF_CORE_READ(task, mm, exe_file, f_path.dentry));
}

static __always_inline bool is_unit_program(const struct subject_key *key, __u32 slot)
{
	struct unit_program_key program = {.slot = slot};

	program.file = *key;
	return bpf_map_lookup_elem(&unit_programs, &program) != NULL;
}

#endif
