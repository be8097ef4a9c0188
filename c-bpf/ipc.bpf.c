// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain ipc: what a subject does to processes of others: signals, tracing, unix sockets,
 * descriptors that it is handed, objects of System V. Inside the own subject it is free, but for
 * tracing. Rules are keyed by the other's artifact, by the path or the abstract name of a socket;
 * without one a subject is refused.
 */
#include "grant.bpf.h"
#include "guard.bpf.h"
#include "listener.bpf.h"
#include "process.bpf.h"
#include "rule.bpf.h"
#include "unix.bpf.h"

/* Generations between a process and one of the own subject that count as its child. */
#define ANCESTORS_MAX 64

static __always_inline int refuse_number(const struct bearer *bearer, __u32 operation, __u32 number)
{
	struct attempt attempt = {
		.domain = DOMAIN_IPC,
		.object_kind = OBJECT_NUMBER,
	};

	attempt.operation = operation;
	attempt.number = number;
	return refuse(bearer, &attempt);
}

/* The record names the other, and whose it is, because a rule is about that. */
static __always_inline int refuse_process(const struct bearer *bearer, __u32 operation,
					  struct task_struct *task, bool silent)
{
	struct attempt attempt = {
		.domain = DOMAIN_IPC,
		.object_kind = OBJECT_PROCESS,
	};
	struct bearer other;

	if (bearer_of(task->group_leader, &other))
		attempt.other = other.slot;
	attempt.operation = operation;
	attempt.number = BPF_CORE_READ(task, tgid);
	attempt.silent = silent;
	return refuse(bearer, &attempt);
}

/* A walk from a process towards the first one. */
struct ancestry {
	__u64 task;
	__u32 slot;
	__u32 found; /* 1: one of them is of this slot */
};

static long ancestry_step(__u64 index, struct ancestry *ancestry)
{
	struct task_struct *task = (void *)ancestry->task;
	struct task_struct *parent = BPF_CORE_READ(task, real_parent);
	__u64 leader = (__u64)BPF_CORE_READ(parent, group_leader);
	__u32 *slot = bpf_map_lookup_elem(&mirror, &leader);

	if (slot && *slot == ancestry->slot)
		ancestry->found = 1;
	if (ancestry->found || leader == ancestry->task)
		return 1;
	ancestry->task = leader;
	return 0;
}

static __always_inline bool is_child(const struct bearer *bearer, struct task_struct *leader)
{
	struct ancestry ancestry = {.slot = bearer->slot};

	ancestry.task = address_of(leader);
	bpf_loop(ANCESTORS_MAX, ancestry_step, &ancestry, 0);
	return ancestry.found;
}

/*
 * Whether a subject may do something to a process. `free`: whether it may among its own without a
 * grant. Processes outside any artifact cannot be granted.
 */
static __always_inline bool may_act_on(const struct bearer *bearer, struct task_struct *task,
				       __u32 operation, bool free)
{
	struct bearer other;

	if (!task || !in_force(bearer) || !bearer_of(task->group_leader, &other))
		return false;
	if (other.slot == bearer->slot)
		return free || granted(bearer, operation, TARGET_SELF);
	if (granted_on(bearer, operation, other.slot))
		return true;
	return is_child(bearer, task->group_leader) && granted(bearer, operation, TARGET_CHILDREN);
}

static __always_inline bool may_send_signals(const struct bearer *bearer, struct task_struct *task)
{
	return may_act_on(bearer, task, OP_SIGNAL, true);
}

/* Who traces also writes to pages that are executable. */
static __always_inline bool may_trace(const struct bearer *bearer, struct task_struct *task)
{
	return may_act_on(bearer, task, OP_TRACE, bearer->flags & PLAN_CODE_GENERATE);
}

/* `info` may be a made-up pointer: never looked at. Signal 0 asks whether the target exists: also
 * theirs. */
SEC("lsm/task_kill")
int BPF_PROG(task_kill, struct task_struct *target, void *info, int signal)
{
	struct bearer bearer;

	if (subject(&bearer) && !may_send_signals(&bearer, target) &&
	    refuse_process(&bearer, OP_SIGNAL, target, false))
		return -EPERM;
	/* also of a subject in audit mode */
	return guard_signal(target, signal) ? -EPERM : 0;
}

/* ptrace, process_vm_*, /proc/PID/{mem,maps,root,ns}, pidfd_getfd. */
SEC("lsm/ptrace_access_check")
int BPF_PROG(ptrace_access_check, struct task_struct *child, unsigned int mode)
{
	struct bearer bearer;

	/* what is read of one's own, such as /proc/PID/maps, is no tracing */
	if (subject(&bearer) &&
	    !may_act_on(&bearer, child, OP_TRACE,
			!(mode & PTRACE_MODE_ATTACH) || (bearer.flags & PLAN_CODE_GENERATE)) &&
	    refuse_process(&bearer, OP_TRACE, child, mode & PTRACE_MODE_NOAUDIT))
		return -EPERM;
	return (mode & PTRACE_MODE_ATTACH) && guard_process(child) ? -EPERM : 0;
}

SEC("lsm/ptrace_traceme")
int BPF_PROG(ptrace_traceme, struct task_struct *parent)
{
	struct bearer bearer;

	if (!subject(&bearer))
		return 0;
	if (may_trace(&bearer, parent))
		return 0;
	return refuse_process(&bearer, OP_TRACE, parent, false) ? -EPERM : 0;
}

/*
 * RLIMIT_CPU of another process is a signal to it; its priority, processors, memory nodes and group
 * decide whether it gets anywhere.
 */
#define OTHERS_HOOK(hook)                                                                          \
	SEC("lsm/" #hook)                                                                          \
	int BPF_PROG(hook, struct task_struct *target)                                             \
	{                                                                                          \
		struct bearer bearer;                                                              \
                                                                                                   \
		if (subject(&bearer) && !may_send_signals(&bearer, target) &&                      \
		    refuse_process(&bearer, OP_SIGNAL, target, false))                             \
			return -EPERM;                                                             \
		return guard_process(target) ? -EPERM : 0;                                         \
	}

OTHERS_HOOK(task_setrlimit)
OTHERS_HOOK(task_setnice)
OTHERS_HOOK(task_setioprio)
OTHERS_HOOK(task_setscheduler)
OTHERS_HOOK(task_movememory)

/*
 * Whoever reads in the background, or is suspended at the terminal, stops its whole group: a
 * subject joins its own groups only. Which it was started in is not its choice.
 */
SEC("lsm/task_setpgid")
int BPF_PROG(task_setpgid, struct task_struct *target, int group)
{
	struct bearer bearer;
	__u64 pid;

	if (!subject(&bearer))
		return 0;
	if (!may_send_signals(&bearer, target))
		return refuse_process(&bearer, OP_SIGNAL, target, false) ? -EPERM : 0;
	pid = pid_by_number(group);
	if (pid && (pid == (__u64)BPF_CORE_READ(target, signal, pids[PIDTYPE_PGID]) ||
		    all_own(&bearer, pid, PIDTYPE_PGID)))
		return 0;
	return refuse_number(&bearer, OP_SIGNAL, group) ? -EPERM : 0;
}

/* A lease makes others wait who open the file: for those who may write to it. */
static __always_inline int judge_lease(const struct bearer *bearer, struct file *file)
{
	struct location where = location_of(&file->f_path);
	struct place place = {
		.dentry = where.dentry,
		.mount = where.mount,
		.wanted = BIT(RIGHT_WRITE),
		.domain = DOMAIN_FILE,
	};

	if (internal_mount(where.mount) && in_force(bearer))
		return 0;
	return judge(bearer, &place);
}

/*
 * A descriptor's owner is signalled without task_kill: only oneself may be made the owner, and
 * nothing be changed where the owner is another. It is written down what the owner was then.
 */
__noinline int judge_fcntl(__u64 address, __u32 command, __u64 argument)
{
	struct file *file = (void *)address;
	struct bearer bearer;

	if (command != F_SETFL && command != F_SETOWN && command != F_SETOWN_EX &&
	    command != F_SETSIG && command != F_SETLEASE && command != F_NOTIFY)
		return 0;
	if (!subject(&bearer))
		return 0;
	switch (command) {
	case F_SETOWN:
		if (in_force(&bearer) && (int)argument == 0)
			return 0;
		if (in_force(&bearer) && (int)argument == own_number() && !note_listener(&bearer))
			return 0;
		break;
	case F_SETOWN_EX:
		break;
	case F_SETFL:
		if (!(argument & O_ASYNC) || (BPF_CORE_READ(file, f_flags) & O_ASYNC))
			return 0;
		if (in_force(&bearer) && may_signal(&bearer, file))
			return 0;
		break;
	case F_SETSIG:
		if (in_force(&bearer) && may_signal(&bearer, file))
			return 0;
		break;
	case F_SETLEASE:
		if (argument == F_UNLCK)
			return 0;
		if (judge_lease(&bearer, file))
			return -EPERM;
		if (!note_listener(&bearer))
			return 0;
		break;
	case F_NOTIFY: /* what it may watch is asked in path_notify */
		if (!note_listener(&bearer))
			return 0;
		break;
	default:
		return 0;
	}
	return refuse_number(&bearer, OP_SIGNAL, (__u32)argument) ? -EPERM : 0;
}

SEC("lsm/file_fcntl")
int BPF_PROG(file_fcntl, struct file *file, unsigned int command, unsigned long argument)
{
	if (outside())
		return 0;
	return judge_fcntl(address_of(file), command, argument) ? -EPERM : 0;
}

/*
 * A descriptor's signal. The current task is not its sender: it is any that an interrupt met, and
 * the scratch of that one may hold a path under judgement. So the record is without paths.
 */
SEC("lsm/file_send_sigiotask")
int BPF_PROG(file_send_sigiotask, struct task_struct *target, struct fown_struct *owner, int signal)
{
	struct attempt attempt = {
		.domain = DOMAIN_IPC,
		.operation = OP_SIGNAL,
		.object_kind = OBJECT_PROCESS,
	};
	struct bearer bearer = {}, other;
	struct listener *listener;

	if (guard_listener(target, signal))
		return -EPERM;
	listener = listener_of(target);
	if (!listener)
		return 0;
	bearer.slot = listener->slot;
	read_slot(&bearer);
	if (bearer.state == SLOT_RELEASED)
		return 0;
	if (!listener->mixed && may_send_signals(&bearer, target))
		return 0;
	if (bearer_of(target->group_leader, &other))
		attempt.other = other.slot;
	attempt.number = BPF_CORE_READ(target, tgid);
	return tell(&bearer, &attempt, NULL) ? -EPERM : 0;
}

SEC("lsm/unix_stream_connect")
int BPF_PROG(unix_stream_connect, struct sock *sock, struct sock *other)
{
	struct bearer bearer;

	if (!subject(&bearer))
		return 0;
	if (in_force(&bearer) && made_here(&bearer, other))
		return 0;
	return judge_peer(&bearer, address_of(other)) ? -EPERM : 0;
}

SEC("lsm/unix_may_send")
int BPF_PROG(unix_may_send, struct socket *sock, struct socket *other)
{
	struct bearer bearer;
	struct sock *peer;

	if (!subject(&bearer))
		return 0;
	peer = other->sk;
	if (peer && in_force(&bearer) && made_here(&bearer, peer))
		return 0;
	return judge_peer(&bearer, address_of(peer)) ? -EPERM : 0;
}

/* What it made itself it could have kept: the mark says so, whoever held it in between. */
static __always_inline bool own_socket(const struct bearer *bearer, struct file *file)
{
	struct socket *socket = bpf_sock_from_file(file);
	struct sock *sock;

	if (!socket)
		return false;
	sock = socket->sk;
	return sock && made_here(bearer, sock);
}

/* Named files are held to the envelope; sockets to their maker; nameless ones are memory and pipes.
 */
SEC("lsm/file_receive")
int BPF_PROG(file_receive, struct file *file)
{
	struct place place = {.domain = DOMAIN_IPC};
	struct location where;
	struct bearer bearer;
	__u64 magic;
	__u32 f_mode;

	if (!subject(&bearer))
		return 0;
	/* a ring passes descriptors without this hook: who may have one may have them all */
	if (granted(&bearer, OP_IPC_RECEIVE, 0) || granted(&bearer, OP_IO_URING, 0))
		return 0;
	where = location_of(&file->f_path);
	if (!internal_mount(where.mount)) {
		f_mode = BPF_CORE_READ(file, f_mode);
		place.dentry = where.dentry;
		place.mount = where.mount;
		if (is_device(BPF_CORE_READ(file, f_inode, i_mode)))
			place.flags = PLACE_DEVICE;
		if (f_mode & FMODE_READ)
			place.wanted |= BIT(RIGHT_READ);
		if (f_mode & FMODE_WRITE)
			place.wanted |= BIT(RIGHT_WRITE);
		/* access mode 3, as in file_open; O_PATH gives no access at all */
		if (!place.wanted && !(f_mode & FMODE_PATH))
			place.wanted = BIT(RIGHT_READ) | BIT(RIGHT_WRITE);
		return judge(&bearer, &place) ? -EPERM : 0;
	}
	magic = BPF_CORE_READ(file, f_inode, i_sb, s_magic);
	if (in_force(&bearer) && (magic == PIPEFS_MAGIC || magic == TMPFS_MAGIC ||
				  magic == HUGETLBFS_MAGIC || own_socket(&bearer, file)))
		return 0;
	return refuse_number(&bearer, OP_IPC_RECEIVE, (__u32)magic) ? -EPERM : 0;
}

#include "sysv.bpf.c"

char LICENSE[] SEC("license") = "GPL";
