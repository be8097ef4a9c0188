// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain cut: what a subject holds open when its rights end. Attached only while a slot that is
 * revoked or unknown has tasks, because everybody's reads and writes pay for it; no rules. Without
 * it a descriptor outlives the right by which it was opened.
 */
#include "report.bpf.h"

/*
 * Every thread of a subject that has not ended, for the daemon: what is left of a process that
 * nobody has waited for counts no more, though it still has its label.
 */
SEC("iter/task")
int list_bound(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct bound_task bound = {};
	__u64 leader;
	__u32 *slot;

	if (!task || task->exit_state)
		return 0;
	leader = address_of(task->group_leader);
	slot = bpf_map_lookup_elem(&mirror, &leader);
	if (!slot || !*slot)
		return 0;
	bound.slot = *slot;
	bound.tgid = task->tgid;
	bpf_seq_write(ctx->meta->seq, &bound, sizeof(bound));
	return 0;
}

/*
 * By the mirror, which also 6.1 always answers: one read too many refused would be an admitted
 * subject's. What is rejected or waits has no tasks that could hold anything.
 */
static __always_inline bool is_cut(struct bearer *bearer)
{
	if (outside() || !mirrored_subject(bearer))
		return false;
	return bearer->state == SLOT_REVOKED || bearer->state == SLOT_UNKNOWN;
}

static __always_inline int refuse_held(const struct bearer *bearer, struct location where)
{
	struct attempt attempt = {
		.domain = DOMAIN_CUT,
		.operation = OP_HELD,
	};

	/* pipes and sockets have no path */
	if (where.dentry && !internal_mount(where.mount))
		name_object(&attempt, where.dentry, where.mount);
	return refuse(bearer, &attempt);
}

/* read, write, getdents, sendfile, splice, copy_file_range, fallocate: whatever moves content. */
SEC("lsm/file_permission")
int BPF_PROG(file_permission, struct file *file, int mask)
{
	struct bearer bearer;

	if (!is_cut(&bearer))
		return 0;
	return refuse_held(&bearer, location_of(&file->f_path)) ? -EPERM : 0;
}

SEC("lsm/socket_sendmsg")
int BPF_PROG(socket_sendmsg, struct socket *sock, struct msghdr *message, int size)
{
	struct location nowhere = {};
	struct bearer bearer;

	if (!is_cut(&bearer))
		return 0;
	return refuse_held(&bearer, nowhere) ? -EPERM : 0;
}

SEC("lsm/socket_recvmsg")
int BPF_PROG(socket_recvmsg, struct socket *sock, struct msghdr *message, int size, int flags)
{
	struct location nowhere = {};
	struct bearer bearer;

	if (!is_cut(&bearer))
		return 0;
	return refuse_held(&bearer, nowhere) ? -EPERM : 0;
}

/* TCP_ZEROCOPY_RECEIVE receives. What options change is refused by network's socket_setsockopt. */
SEC("lsm/socket_getsockopt")
int BPF_PROG(socket_getsockopt, struct socket *sock, int level, int option)
{
	struct location nowhere = {};
	struct bearer bearer;

	if (!is_cut(&bearer))
		return 0;
	return refuse_held(&bearer, nowhere) ? -EPERM : 0;
}

char LICENSE[] SEC("license") = "GPL";
