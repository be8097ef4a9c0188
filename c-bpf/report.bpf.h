/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Says no, and says so: counts the refusal, and puts a record into the ring while the slot's budget
 * lasts. The verdict never depends on whether the record fitted; what did not fit is counted.
 */
#ifndef CARTOUCHE_REPORT_BPF_H
#define CARTOUCHE_REPORT_BPF_H

#include "label.bpf.h"
#include "path.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_RINGBUF);
	__uint(max_entries, RING_BYTES);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} events SEC(".maps");

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, SLOTS_MAX);
	__type(key, __u32);
	__type(value, struct slot_counts);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} counts SEC(".maps");

/* What was tried, to what. No pointers and no padding: handed to functions that are verified alone.
 */
struct attempt {
	__u16 operation; /* enum right or enum operation */
	__u8 domain;
	__u8 reason;
	__u8 object_kind;
	__u8 protocol;
	__u16 port;
	__u32 number;
	__u32 at;    /* OBJECT_PATH: where the path begins in this thread's scratch */
	__u8 silent; /* the kernel asks and does not mind: count, but no record */
	__u8 always; /* refused in audit mode too: not a matter of the envelope */
	__u16 kind;  /* of a socket: SOCK_* */
	__u32 other; /* OBJECT_PROCESS: the slot of that process, 0: outside */
	__u8 address[16];
};

static __always_inline void describe(struct event *event, const struct bearer *bearer,
				     const struct attempt *attempt, struct scratch *scratch)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 ids = bpf_get_current_pid_tgid();
	__u32 at = attempt->at & (WALK_MAX - 1);

	event->time = bpf_ktime_get_boot_ns();
	event->slot = bearer->slot;
	event->pid = (__u32)ids;
	event->tgid = ids >> 32;
	event->uid = (__u32)bpf_get_current_uid_gid();
	event->operation = attempt->operation;
	event->domain = attempt->domain;
	event->object_kind = attempt->object_kind;
	event->protocol = attempt->protocol;
	event->port = attempt->port;
	event->kind = attempt->kind;
	event->number = attempt->number;
	event->other = attempt->other;
	event->pad = 0;
	event->object_length = 0;
	event->exe_length = 0;
	__builtin_memcpy(event->address, attempt->address, sizeof(event->address));
	__builtin_memset(event->object, 0, sizeof(event->object));
	__builtin_memset(event->exe, 0, sizeof(event->exe));
	bpf_probe_read_kernel_str(event->comm, sizeof(event->comm), &task->comm);
	if (scratch && attempt->object_kind == OBJECT_PATH) {
		event->object_length = WALK_MAX - 1 - at;
		bpf_probe_read_kernel(event->object, RULE_MAX, &scratch->path[at]);
	}
	if (scratch) {
		struct file *exe = BPF_CORE_READ(task, mm, exe_file);
		__u32 leaf = 0;
		int start;

		if (!exe)
			return;
		start = walk_path(scratch, (__u64)BPF_CORE_READ(exe, f_path.dentry),
				  (__u64)BPF_CORE_READ(exe, f_path.mnt), &leaf);
		if (start < 0)
			return;
		start &= WALK_MAX - 1;
		event->exe_length = WALK_MAX - 1 - start;
		bpf_probe_read_kernel(event->exe, RULE_MAX, &scratch->path[start]);
	}
}

static __always_inline int tell(const struct bearer *bearer, const struct attempt *attempt,
				struct scratch *scratch)
{
	__u8 reason = attempt->reason;
	struct slot_counts *count;
	struct event *event;
	struct bearer actor;
	__u32 slot, domain;
	__u64 second, *spent;
	bool deny;

	deny = true;
	if (!in_force(bearer))
		reason = bearer->state == SLOT_REVOKED	 ? REASON_REVOKED
			 : bearer->state == SLOT_REFUSED ? REASON_REFUSED
							 : REASON_UNKNOWN_SLOT;
	/* a revoked slot has the mode of the node; an unknown one enforces */
	if (bearer->mode == MODE_AUDIT && !attempt->always)
		deny = false;
	slot = bearer->slot;
	count = bpf_map_lookup_elem(&counts, &slot);
	if (!count)
		return deny;
	domain = attempt->domain & (DOMAINS - 1);
	if (deny)
		__sync_fetch_and_add(&count->denied[domain], 1);
	else
		__sync_fetch_and_add(&count->would_deny[domain], 1);
	if (attempt->silent) {
		__sync_fetch_and_add(&count->silent, 1);
		return deny;
	}
	second = bpf_ktime_get_boot_ns() / 1000000000;
	if (count->window != second) {
		count->window = second;
		count->spent = 0;
		count->strangers_spent = 0;
	}
	spent = mirrored_subject(&actor) ? &count->spent : &count->strangers_spent;
	if (__sync_fetch_and_add(spent, 1) >= EVENT_BUDGET) {
		__sync_fetch_and_add(&count->lost, 1);
		return deny;
	}
	event = bpf_ringbuf_reserve(&events, sizeof(*event), 0);
	if (!event) {
		__sync_fetch_and_add(&count->lost, 1);
		return deny;
	}
	describe(event, bearer, attempt, scratch);
	event->reason = reason;
	event->verdict = deny ? VERDICT_DENIED : VERDICT_WOULD_DENY;
	bpf_ringbuf_submit(event, 0);
	return deny;
}

/* Gives the attempt its path, for the audit line; what cannot be named stays without. */
static __always_inline void name_object(struct attempt *attempt, __u64 dentry, __u64 mount)
{
	struct scratch *scratch = scratch_of_current();
	__u32 leaf = 0;
	int at;

	if (!scratch || !dentry)
		return;
	at = walk_path(scratch, dentry, mount, &leaf);
	if (at < 0)
		return;
	attempt->at = at;
	attempt->object_kind = OBJECT_PATH;
}

/* 1: the caller denies. 0: the artifact is in audit mode, and the attempt is only told. */
__noinline int refuse(const struct bearer *bearer, const struct attempt *attempt)
{
	if (!bearer || !attempt)
		return 1;
	return tell(bearer, attempt, scratch_of_current());
}

#endif
