// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain exec: the life of a label. In force from the moment that execve cannot fail any more,
 * inherited by whatever a process makes of itself, gone with it. Which label an execve leads to is
 * decided in exec.bpf.c.
 */
#include "identity.bpf.h"
#include "report.bpf.h"
#include "unit.bpf.h"

/*
 * An exec that was decided before its file became a subject, and comes through after the adoption
 * has looked at the old image: it is bound here, or does not start.
 */
static __always_inline int label_late(struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 address = address_of(task);
	struct bearer tracer = {};
	struct subject *entry;
	struct label *label;
	__u32 slot;

	entry = subject_of((__u64)BPF_CORE_READ(bprm, file, f_inode));
	if (!entry)
		return 0;
	slot = entry->slot;
	label = bpf_task_storage_get(&labels, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!label || bpf_map_update_elem(&mirror, &address, &slot, BPF_ANY)) {
		bpf_send_signal(SIGKILL);
		return 0;
	}
	label->pending = 0;
	label->slot = slot;
	/* as every change of label; who traces or shares would have a hand in it */
	bpf_bprm_opts_set(bprm, BPF_F_BPRM_SECUREEXEC);
	if (bprm->unsafe & LSM_UNSAFE_SHARE)
		bpf_send_signal(SIGKILL);
	if ((bprm->unsafe & LSM_UNSAFE_PTRACE) && bearer_of(task->parent->group_leader, &tracer))
		bpf_send_signal(SIGKILL);
	return 0;
}

/* After de_thread: this thread is the leader now, and no code of the new image has run. */
SEC("lsm/bprm_committing_creds")
int BPF_PROG(bprm_committing_creds, struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 address = (__u64)task;
	struct subject *entry;
	struct subject_key key;
	struct label *label;
	__u32 slot, *mirrored;

	if (!task->bpf_storage)
		return label_late(bprm);
	label = bpf_task_storage_get(&labels, task, NULL, 0);
	mirrored = bpf_map_lookup_elem(&mirror, &address);
	if (!label) {
		/* decided, and now unreadable (6.1): it must not start as if it were outside */
		if (mirrored)
			bpf_send_signal(SIGKILL);
		else
			label_late(bprm);
		return 0;
	}
	slot = label->pending;
	if (!slot) {
		if (!label->slot)
			label_late(bprm);
		return 0;
	}
	key = label->key;
	if (key.ino) {
		/* the artifact may have changed hands between the decision and now */
		entry = subject_by_key(&key);
		if (entry && !is_unit_program(&key, slot))
			slot = entry->slot;
	}
	/* what an adopted process had started is of its old artifact, not of this one */
	if (label->slot != slot)
		label->adopted = 0;
	label->slot = slot;
	label->pending = 0;
	label->invited = 0;
	if (bpf_map_update_elem(&mirror, &address, &slot, BPF_ANY))
		bpf_send_signal(SIGKILL);
	return 0;
}

/* fork, vfork, clone3, io_uring workers; threads share the leader's label. Never the pending one.
 */
SEC("lsm/task_alloc")
int BPF_PROG(task_alloc, struct task_struct *task, unsigned long clone_flags)
{
	struct attempt attempt = {
		.domain = DOMAIN_EXEC,
		.operation = OP_FORK,
		.reason = REASON_MEMORY,
		.always = 1,
	};
	__u64 address = (__u64)task;
	struct bearer bearer;
	struct label *label;

	if (clone_flags & CLONE_THREAD)
		return 0;
	/* also who is released: its children are held with it again */
	if (outside() || !labelled(bpf_get_current_task_btf()->group_leader, &bearer))
		return 0;
	/* who is ended makes no more: ending them all comes to an end */
	if (bearer.flags & SLOT_DYING)
		goto refused;
	/*
	 * A path descriptor of the directory is enough to start a child in the cgroup of another
	 * service, out of reach of who watches over the own one. cgroup.procs is a file with rules.
	 */
	if ((clone_flags & CLONE_INTO_CGROUP) && bearer.state != SLOT_RELEASED) {
		attempt.reason = REASON_NEVER;
		attempt.always = 0;
		if (refuse(&bearer, &attempt))
			return -EPERM;
		attempt.reason = REASON_MEMORY;
		attempt.always = 1;
	}
	label = bpf_task_storage_get(&labels, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!label)
		goto refused;
	label->slot = bearer.slot;
	label->pending = 0;
	if (bpf_map_update_elem(&mirror, &address, &bearer.slot, BPF_ANY))
		goto refused;
	return 0;
refused:
	refuse(&bearer, &attempt);
	return -EPERM;
}

/*
 * A child that was begun before its parent was adopted, and that the adoption did not find: it is
 * in the list of tasks now, and has not run.
 */
SEC("tp_btf/task_newtask")
int BPF_PROG(task_newtask, struct task_struct *task, unsigned long clone_flags)
{
	__u64 address = (__u64)task;
	struct bearer bearer;
	struct label *label;

	if ((clone_flags & CLONE_THREAD) || outside())
		return 0;
	if (!labelled(bpf_get_current_task_btf()->group_leader, &bearer))
		return 0;
	label = bpf_task_storage_get(&labels, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (label && label->slot)
		return 0;
	if (!label || bpf_map_update_elem(&mirror, &address, &bearer.slot, BPF_ANY)) {
		/* out of memory: its maker goes, and the daemon adopts it within a minute */
		bpf_send_signal(SIGKILL);
		return 0;
	}
	label->slot = bearer.slot;
	return 0;
}

/* The only place where a mirror entry goes: an address may be another task's afterwards. */
SEC("lsm/task_free")
int BPF_PROG(task_free, struct task_struct *task)
{
	__u64 address = (__u64)task;

	if (task->bpf_storage)
		bpf_map_delete_elem(&mirror, &address);
	return 0;
}
