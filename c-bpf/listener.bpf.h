/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Processes that have made themselves owners of descriptors, which signal them without asking
 * anybody's envelope, and what they were then: they may be another artifact's now.
 */
#ifndef CARTOUCHE_LISTENER_BPF_H
#define CARTOUCHE_LISTENER_BPF_H

#include "process.bpf.h"

/*
 * By the address of the struct pid, which a process keeps when a thread runs a program: a label's
 * storage may be another's then. No hook tells of the end of one for nothing, so entries are
 * checked against the start of the process, and what is stale goes when there is no room.
 */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, LISTENERS_MAX);
	__type(key, __u64);
	__type(value, struct listener);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} listeners SEC(".maps");

/* When the process began that a struct pid stands for; nonsense if it stands for none any more. */
static __always_inline __u64 start_by_pid(__u64 pid)
{
	__u64 link = bpf_core_field_offset(struct task_struct, pid_links) +
		     PIDTYPE_TGID * bpf_core_type_size(struct hlist_node);
	__u64 node = 0;

	bpf_probe_read_kernel(&node, sizeof(node),
			      (void *)pid + bpf_core_field_offset(struct pid, tasks) +
				      PIDTYPE_TGID * sizeof(struct hlist_head));
	return node ? BPF_CORE_READ((struct task_struct *)(node - link), start_time) : 0;
}

static long drop_ended(struct bpf_map *map, __u64 *key, struct listener *listener, void *unused)
{
	__u64 pid = *key;

	if (start_by_pid(pid) != listener->start_time)
		bpf_map_delete_elem(&listeners, &pid);
	return 0;
}

/* Not 0: no room, and the process must not become an owner. */
static __always_inline long note_listener(const struct bearer *bearer)
{
	__u64 pid = address_of((void *)own_pid());
	struct listener listener = {.slot = bearer->slot};
	struct listener *known;

	listener.start_time = bpf_get_current_task_btf()->group_leader->start_time;
	known = bpf_map_lookup_elem(&listeners, &pid);
	if (known && known->start_time == listener.start_time)
		listener.mixed = known->mixed || known->slot != listener.slot;
	if (!bpf_map_update_elem(&listeners, &pid, &listener, BPF_ANY))
		return 0;
	bpf_for_each_map_elem(&listeners, drop_ended, NULL, 0);
	return bpf_map_update_elem(&listeners, &pid, &listener, BPF_ANY);
}

/* NULL: it has never been a subject when it became an owner, or never became one. */
static __always_inline struct listener *listener_of(struct task_struct *task)
{
	__u64 pid = (__u64)BPF_CORE_READ(task, signal, pids[PIDTYPE_TGID]);
	struct listener *listener = bpf_map_lookup_elem(&listeners, &pid);

	if (!listener || listener->start_time != BPF_CORE_READ(task, group_leader, start_time))
		return NULL;
	return listener;
}

#endif
