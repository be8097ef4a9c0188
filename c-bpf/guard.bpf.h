/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What of Cartouche nobody but itself may touch, root outside any artifact included: the pins, the
 * maps, the links, the daemon. Hooks of other domains ask here; guard.bpf.c has those that are
 * left.
 */
#ifndef CARTOUCHE_GUARD_BPF_H
#define CARTOUCHE_GUARD_BPF_H

#include "identity.bpf.h"
#include "report.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct guarded);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} guarded SEC(".maps");

/* Maps and programs by id. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, GUARDED_MAX);
	__type(key, struct guarded_id);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} guarded_ids SEC(".maps");

/* Cartouche's own programs, by directory and name: an upgrade puts another file there. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 64);
	__type(key, struct keeper_key);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} keepers SEC(".maps");

/* NULL: nothing is guarded. */
static __always_inline struct guarded *guard_on(void)
{
	__u32 zero = 0;
	struct guarded *guard = bpf_map_lookup_elem(&guarded, &zero);

	return guard && guard->on ? guard : NULL;
}

/*
 * Whether the current task may touch what is guarded: the system manager, and Cartouche's own
 * programs unless somebody traces them.
 */
__noinline int is_keeper(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct keeper_key key = {};
	struct dentry *dentry;

	if (task->tgid == 1)
		return 1;
	if (task->ptrace)
		return 0;
	dentry = BPF_CORE_READ(task, mm, exe_file, f_path.dentry);
	if (!dentry)
		return 0;
	key_of((__u64)BPF_CORE_READ(dentry, d_parent, d_inode), &key.directory);
	bpf_probe_read_kernel_str(key.name, sizeof(key.name), BPF_CORE_READ(dentry, d_name.name));
	return bpf_map_lookup_elem(&keepers, &key) ? 1 : 0;
}

/* Refuses somebody outside, on behalf of Cartouche itself: audit mode does not soften it. */
__noinline int refuse_guarded(__u32 number, __u64 dentry, __u64 mount)
{
	struct attempt attempt = {
		.domain = DOMAIN_GUARD,
		.operation = OP_GUARD,
		.reason = REASON_GUARDED,
		.object_kind = OBJECT_NUMBER,
		.always = 1,
	};
	struct bearer bearer = {.state = SLOT_ADMITTED};
	struct guarded *guard = guard_on();

	if (!guard)
		return 0;
	bearer.slot = guard->slot;
	attempt.number = number;
	name_object(&attempt, dentry, mount);
	refuse(&bearer, &attempt);
	return -EPERM;
}

static __always_inline bool is_guarded_id(__u32 kind, __u32 id)
{
	struct guarded_id key = {.kind = kind, .id = id};

	return bpf_map_lookup_elem(&guarded_ids, &key) != NULL;
}

/* Directories from a pin up to the directory of all. */
#define PIN_DEPTH_MAX 8

/* Whether a name lies in the directory of pins, or is it. */
static __always_inline bool is_pin(const struct guarded *guard, __u64 address)
{
	struct dentry *dentry = (void *)address;
	__u32 depth;

	if (BPF_CORE_READ(dentry, d_sb, s_magic) != BPF_FS_MAGIC ||
	    BPF_CORE_READ(dentry, d_sb, s_dev) != guard->pins_dev)
		return false;
	for (depth = 0; depth < PIN_DEPTH_MAX; depth++) {
		if (BPF_CORE_READ(dentry, d_inode, i_ino) == guard->pins_ino)
			return true;
		dentry = BPF_CORE_READ(dentry, d_parent);
	}
	return false;
}

/* A name that is to go, or to become another, by a task outside. */
static __always_inline int guard_name(__u64 dentry, __u64 mount)
{
	struct guarded *guard = guard_on();

	if (!guard || !is_pin(guard, dentry) || is_keeper())
		return 0;
	return refuse_guarded(0, dentry, mount);
}

/* Whether what happens to a mount, or to what it hangs in, happens in other namespaces too. */
static __always_inline bool is_shared(__u64 vfsmount)
{
	struct mount *mount = (void *)(vfsmount - bpf_core_field_offset(struct mount, mnt));

	return (BPF_CORE_READ(mount, mnt.mnt_flags) |
		BPF_CORE_READ(mount, mnt_parent, mnt.mnt_flags)) &
	       MNT_SHARED;
}

/* A mount or unmount of what the pins lie in, where everybody sees it. */
static __always_inline int guard_mount(__u64 dentry, __u64 mount)
{
	struct guarded *guard = guard_on();

	if (!guard || BPF_CORE_READ((struct dentry *)dentry, d_sb, s_dev) != guard->pins_dev)
		return 0;
	if ((BPF_CORE_READ(current_task(), nsproxy, mnt_ns, ns.inum) != guard->namespace &&
	     !is_shared(mount)) ||
	    is_keeper())
		return 0;
	return refuse_guarded(0, dentry, mount);
}

/* A mount that leaves its place, which a copy by open_tree(2) does not have yet. */
static __always_inline int guard_moved_mount(struct location from)
{
	struct mount *mount = (void *)(from.mount - bpf_core_field_offset(struct mount, mnt));

	if (BPF_CORE_READ(mount, mnt_ns) != BPF_CORE_READ(current_task(), nsproxy, mnt_ns))
		return 0;
	return guard_mount(from.dentry, from.mount);
}

/* Whether a process is the daemon; its number may be another's once it is gone. */
static __always_inline bool is_daemon(const struct guarded *guard, struct task_struct *task)
{
	return (__u32)BPF_CORE_READ(task, tgid) == guard->tgid &&
	       BPF_CORE_READ(task, group_leader, start_time) == guard->start_time;
}

static __always_inline bool guards_process(struct task_struct *task)
{
	struct guarded *guard = guard_on();

	return guard && guard->tgid && is_daemon(guard, task) && !is_keeper();
}

/* What ends or stops the daemon: all but those that it takes, or that do nothing. */
static __always_inline int guard_signal(struct task_struct *task, int signal)
{
	if (!signal || signal == SIGHUP || signal == SIGCHLD || signal == SIGCONT ||
	    !guards_process(task))
		return 0;
	return refuse_guarded(signal, 0, 0);
}

/*
 * A descriptor's signal, in whatever task happens to run, a keeper perhaps: none is excused. The
 * daemon owns no descriptor. The record is without paths, as in file_send_sigiotask.
 */
static __always_inline int guard_listener(struct task_struct *task, int signal)
{
	struct attempt attempt = {
		.domain = DOMAIN_GUARD,
		.operation = OP_GUARD,
		.reason = REASON_GUARDED,
		.object_kind = OBJECT_NUMBER,
		.always = 1,
	};
	struct bearer bearer = {.state = SLOT_ADMITTED};
	struct guarded *guard = guard_on();

	if (!guard || !guard->tgid || !is_daemon(guard, task))
		return 0;
	bearer.slot = guard->slot;
	attempt.number = signal;
	tell(&bearer, &attempt, NULL);
	return -EPERM;
}

static __always_inline int guard_process(struct task_struct *task)
{
	return guards_process(task) ? refuse_guarded(0, 0, 0) : 0;
}

#endif
