/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which processes a number or a struct pid stands for, and whether all of them are the own
 * subject's. By the mirror: task storage cannot be asked about a task that was found in a list.
 */
#ifndef CARTOUCHE_PROCESS_BPF_H
#define CARTOUCHE_PROCESS_BPF_H

#include "compat.bpf.h"
#include "label.bpf.h"
#include "path.bpf.h"

/* Members of a process group that are looked at; a larger one counts as one with others in it. */
#define GROUP_MAX 4096
/* Levels of a tree that holds 2^22 numbers (PID_MAX_LIMIT), and one more. */
#define NUMBER_LEVELS 5
#define XA_SLOTS 64
#define XA_NODE 2ull

/* What the current process is in its own PID namespace. */
static __always_inline struct upid *own_upid(void)
{
	struct pid *pid = (void *)address_of((void *)own_pid());

	return (void *)pid + bpf_core_field_offset(struct pid, numbers) +
	       (__u64)BPF_CORE_READ(pid, level) * bpf_core_type_size(struct upid);
}

static __always_inline int own_number(void)
{
	return BPF_CORE_READ(own_upid(), nr);
}

/* The struct pid that the current process calls by this number; 0: there is none. */
static __always_inline __u64 pid_by_number(__u32 number)
{
	__u64 entry = (__u64)BPF_CORE_READ(own_upid(), ns, idr.idr_rt.xa_head);
	__u32 i;

	for (i = 0; i < NUMBER_LEVELS; i++) {
		struct xa_node *node = (void *)(entry - XA_NODE);
		__u32 shift;

		/* addresses of the kernel's are above; what is stored is one too */
		if ((entry & 3) != XA_NODE || entry <= 4096)
			break;
		shift = BPF_CORE_READ(node, shift) & 31;
		if (i == 0 && (__u64)number >> shift >= XA_SLOTS)
			return 0;
		bpf_probe_read_kernel(&entry, sizeof(entry),
				      (void *)node + bpf_core_field_offset(struct xa_node, slots) +
					      ((number >> shift) & (XA_SLOTS - 1)) * sizeof(entry));
	}
	return (entry & 3) ? 0 : entry;
}

/* A walk over the processes of a struct pid. */
struct members {
	__u64 next; /* hlist_node in the next one's task_struct */
	__u64 link; /* offset of that */
	__u32 slot;
	__u32 others; /* 1: one of them is not of this slot */
};

static long examine_member(__u64 index, struct members *members)
{
	struct hlist_node *node = (void *)members->next;
	struct task_struct *task;
	__u64 leader;
	__u32 *slot;

	if (!node)
		return 1;
	task = (void *)((__u64)node - members->link);
	leader = (__u64)BPF_CORE_READ(task, group_leader);
	slot = bpf_map_lookup_elem(&mirror, &leader);
	if (!slot || *slot != members->slot) {
		members->others = 1;
		return 1;
	}
	members->next = (__u64)BPF_CORE_READ(node, next);
	return 0;
}

/* Whether all that a struct pid stands for, as a number of this type, is of the own subject. */
static __always_inline bool all_own(const struct bearer *bearer, __u64 pid, __u32 type)
{
	struct members members = {.slot = bearer->slot};

	if (type >= PIDTYPE_MAX)
		return false;
	members.link = bpf_core_field_offset(struct task_struct, pid_links) +
		       type * bpf_core_type_size(struct hlist_node);
	bpf_probe_read_kernel(&members.next, sizeof(members.next),
			      (void *)pid + bpf_core_field_offset(struct pid, tasks) +
				      type * sizeof(struct hlist_head));
	bpf_loop(GROUP_MAX, examine_member, &members, 0);
	return !members.others && !members.next;
}

/* Whether a descriptor signals nobody yet, or the own subject only. */
static __always_inline bool signals_own(const struct bearer *bearer, struct file *file)
{
	struct fown_struct *owner = owner_of(file);
	__u64 pid;

	if (!owner)
		return true;
	pid = (__u64)BPF_CORE_READ(owner, pid);
	return !pid || all_own(bearer, pid, BPF_CORE_READ(owner, pid_type));
}

/*
 * Whether a descriptor may be told to signal, or with which signal. Of a terminal the kernel makes
 * the foreground process group the owner, whoever that is, if it has none; others have none.
 */
static __always_inline bool may_signal(const struct bearer *bearer, struct file *file)
{
	return (BPF_CORE_READ(file, f_inode, i_mode) & S_IFMT) != S_IFCHR &&
	       signals_own(bearer, file);
}

#endif
