/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Who is a subject: the label of a process, the gate that every hook passes first, and the slot
 * that a label points to. The label lives in task storage of the thread-group leader, so threads
 * share it.
 */
#ifndef CARTOUCHE_LABEL_BPF_H
#define CARTOUCHE_LABEL_BPF_H

#include "cartouche.h"
#include "kernel.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct label);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} labels SEC(".maps");

/*
 * Address of the leader's task_struct -> slot, 0 while an exec is under way. For programs that have
 * no task storage (cgroup), and for the moment in which 6.1 answers NULL although there is storage.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, MIRROR_MAX);
	__type(key, __u64);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} mirror SEC(".maps");

/* Mapped by the daemon, so that a slot changes with one store. */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(map_flags, BPF_F_MMAPABLE);
	__uint(max_entries, SLOTS_MAX);
	__type(key, __u32);
	__type(value, struct slot);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} slots SEC(".maps");

/* What a hook needs to know of the task that it judges. */
struct bearer {
	__u32 slot;
	__u32 plan;
	__u16 flags; /* PLAN_* */
	__u8 state;  /* enum slot_state */
	__u8 mode;   /* enum slot_mode */
};

/* The one read that a task outside pays: no storage of anybody, no label. */
static __always_inline bool outside(void)
{
	return !bpf_get_current_task_btf()->group_leader->bpf_storage;
}

/*
 * For the length of a call the kernel works under other credentials than the task's own: overlay in
 * its layers, under those of the one who mounted it. User space never runs like that; but a ring
 * does, in its workers and in the task itself, under those that whoever filled it had then. Who has
 * one works under its own.
 */
static __always_inline bool borrows_creds(void)
{
	struct task_struct *task = bpf_get_current_task_btf();

	return task->cred != task->real_cred && !(task->flags & PF_IO_WORKER) &&
	       !BPF_CORE_READ(task, io_uring);
}

static __always_inline void read_slot(struct bearer *bearer)
{
	struct slot *slot = bpf_map_lookup_elem(&slots, &bearer->slot);
	__u64 word;

	if (!slot)
		return;
	/* One load: the daemon swaps all of it with one store. */
	word = *(volatile __u64 *)slot;
	bearer->state = (__u8)word;
	bearer->mode = (__u8)(word >> 8);
	bearer->flags = (__u16)(word >> 16);
	bearer->plan = (__u32)(word >> 32);
}

/*
 * Fills `bearer` for a process that has a label, by its leader. A label that exists but cannot be
 * read is a subject of an unknown slot, and that denies.
 */
static __always_inline bool labelled(struct task_struct *leader, struct bearer *bearer)
{
	struct label *label;

	*bearer = (struct bearer){};
	label = bpf_task_storage_get(&labels, leader, NULL, 0);
	if (label) {
		bearer->slot = label->slot;
	} else {
		__u64 address = (__u64)leader;
		__u32 *slot = bpf_map_lookup_elem(&mirror, &address);

		if (!slot)
			return false;
		bearer->slot = *slot;
		if (!bearer->slot)
			return false;
		/* storage exists but answers NULL: 6.1, another update on this CPU */
		return true;
	}
	if (!bearer->slot)
		return false;
	read_slot(bearer);
	return true;
}

/* Whether a process is a subject. False: outside, also as long as its slot is released. */
static __always_inline bool bearer_of(struct task_struct *leader, struct bearer *bearer)
{
	return labelled(leader, bearer) && bearer->state != SLOT_RELEASED;
}

/* The same for the current task; the fast answer first. */
static __always_inline bool subject(struct bearer *bearer)
{
	if (outside())
		return false;
	return bearer_of(bpf_get_current_task_btf()->group_leader, bearer);
}

/* The same where there is no task storage. */
static __always_inline bool mirrored_subject(struct bearer *bearer)
{
	__u64 leader = address_of(bpf_get_current_task_btf()->group_leader);
	__u32 *slot = bpf_map_lookup_elem(&mirror, &leader);

	*bearer = (struct bearer){};
	if (!slot || !*slot)
		return false;
	bearer->slot = *slot;
	read_slot(bearer);
	return bearer->state != SLOT_RELEASED;
}

/* Whether a plan may be asked at all; else the reason why everything is denied. */
static __always_inline bool in_force(const struct bearer *bearer)
{
	return bearer->state == SLOT_ADMITTED;
}

#endif
