// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain privilege: powers over the machine rather than over files: Linux capabilities, namespaces,
 * perf, keyrings, io_uring. Each is one entry of a plan; without it a subject is refused. What
 * would end the envelope itself (mounts, BPF, modules) is refused whatever the plan says.
 */
#include "compat.bpf.h"
#include "grant.bpf.h"
#include "guard.bpf.h"
#include "report.bpf.h"

/* With one of these a task could leave any envelope; admission refuses them too (kcap.rs). */
#define NEVER_GRANTED                                                                              \
	(1ull << CAP_SYS_MODULE | 1ull << CAP_SYS_RAWIO | 1ull << CAP_SYS_PTRACE |                 \
	 1ull << CAP_SYS_ADMIN | 1ull << CAP_MKNOD | 1ull << CAP_MAC_OVERRIDE |                    \
	 1ull << CAP_MAC_ADMIN | 1ull << CAP_BPF | 1ull << CAP_CHECKPOINT_RESTORE)

static __always_inline int refuse_number(const struct bearer *bearer, __u32 operation, __u32 number,
					 __u32 reason, bool silent)
{
	struct attempt attempt = {
		.domain = DOMAIN_PRIVILEGE,
		.object_kind = OBJECT_NUMBER,
	};

	attempt.operation = operation;
	attempt.number = number;
	attempt.reason = reason;
	attempt.silent = silent;
	return refuse(bearer, &attempt);
}

static __always_inline int refuse_flatly(__u32 operation)
{
	struct bearer bearer;

	if (!subject(&bearer))
		return 0;
	return refuse_number(&bearer, operation, 0, REASON_NEVER, false);
}

/* Holds a subject to a capability that is one word. */
static __always_inline int judge_power(__u32 operation)
{
	struct bearer bearer;

	if (!subject(&bearer) || granted(&bearer, operation, 0))
		return 0;
	return refuse_number(&bearer, operation, 0, REASON_NO_RULE, false);
}

#define REFUSED_HOOK(hook, operation)                                                              \
	SEC("lsm/" #hook)                                                                          \
	int hook(unsigned long long *ctx)                                                          \
	{                                                                                          \
		return refuse_flatly(operation) ? -EPERM : 0;                                      \
	}

#define POWER_HOOK(hook, operation)                                                                \
	SEC("lsm/" #hook)                                                                          \
	int hook(unsigned long long *ctx)                                                          \
	{                                                                                          \
		return judge_power(operation) ? -EPERM : 0;                                        \
	}

/*
 * fsopen, fsmount, open_tree, mount_setattr and setns have no hook: `capable` refuses them. chroot
 * has one, and needs none: paths are seen from the root of the mount namespace.
 */
REFUSED_HOOK(sb_remount, OP_MOUNT)
REFUSED_HOOK(sb_pivotroot, OP_MOUNT)
REFUSED_HOOK(kernel_read_file, OP_MODULE)
REFUSED_HOOK(kernel_load_data, OP_MODULE)
REFUSED_HOOK(kernel_module_request, OP_MODULE)
/* a ring that works under credentials registered before, and commands that a driver makes up */
REFUSED_HOOK(uring_override_creds, OP_IO_URING)
REFUSED_HOOK(uring_cmd, OP_IO_URING)

POWER_HOOK(userns_create, OP_NAMESPACE)
POWER_HOOK(perf_event_open, OP_PERF)
POWER_HOOK(key_alloc, OP_KEYRING)
POWER_HOOK(key_permission, OP_KEYRING)
POWER_HOOK(uring_sqpoll, OP_IO_URING)

SEC("lsm/sb_mount")
int BPF_PROG(sb_mount, const char *device, const struct path *path)
{
	struct location where = location_of(path);

	if (guard_mount(where.dentry, where.mount))
		return -EPERM;
	return refuse_flatly(OP_MOUNT) ? -EPERM : 0;
}

SEC("lsm/move_mount")
int BPF_PROG(move_mount, const struct path *from, const struct path *to)
{
	struct location where = location_of(to);

	if (guard_mount(where.dentry, where.mount) || guard_moved_mount(location_of(from)))
		return -EPERM;
	return refuse_flatly(OP_MOUNT) ? -EPERM : 0;
}

SEC("lsm/sb_umount")
int BPF_PROG(sb_umount, struct vfsmount *mount)
{
	if (guard_mount((__u64)BPF_CORE_READ(mount, mnt_root), address_of(mount)))
		return -EPERM;
	return refuse_flatly(OP_MOUNT) ? -EPERM : 0;
}

/* arch/x86/entry/syscalls/syscall_64.tbl */
#define NR_WRITE 1
#define NR_PWRITE64 18
#define NR_WRITEV 20
#define NR_CLONE 56
#define NR_LINKAT 265
#define NR_UNSHARE 272
#define NR_OPEN_BY_HANDLE_AT 304
#define NR_CLONE3 435
/* arch/x86/include/asm/thread_info.h: in a system call of the 32-bit kind, with its own numbers */
#define TS_COMPAT 0x2

/*
 * Whether a subject that may make namespaces is making one, or writes the maps of its own. The same
 * CAP_SYS_ADMIN would let it mount and join there: so only from these calls.
 */
static __always_inline bool makes_namespace(const struct bearer *bearer,
					    struct user_namespace *namespace)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *registers;

	if (!BPF_CORE_READ(namespace, level) || (task->flags & PF_IO_WORKER) ||
	    (task->thread_info.status & TS_COMPAT))
		return false;
	registers = (void *)bpf_task_pt_regs(task);
	switch (registers->orig_ax) {
	case NR_WRITE:
	case NR_PWRITE64:
	case NR_WRITEV:
	case NR_CLONE:
	case NR_UNSHARE:
	case NR_CLONE3:
		return granted(bearer, OP_NAMESPACE, 0);
	}
	return false;
}

/*
 * Whether the kernel goes on to ask for CAP_DAC_OVERRIDE, of which CAP_DAC_READ_SEARCH is a part,
 * and the subject has that: being refused the part keeps it from nothing. Only these two calls want
 * the part and nothing else.
 */
static __always_inline bool has_larger(const struct bearer *bearer, __u32 capability)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct pt_regs *registers;

	if (capability != CAP_DAC_READ_SEARCH || (task->flags & PF_IO_WORKER) ||
	    (task->thread_info.status & TS_COMPAT))
		return false;
	registers = (void *)bpf_task_pt_regs(task);
	if (registers->orig_ax == NR_LINKAT || registers->orig_ax == NR_OPEN_BY_HANDLE_AT)
		return false;
	return granted(bearer, OP_LINUX_CAPABILITY, CAP_DAC_OVERRIDE);
}

__noinline int judge_capability(__u64 namespace, __u32 capability, __u32 options)
{
	struct bearer bearer;
	bool never = capability >= 64 || (NEVER_GRANTED >> capability) & 1;

	if (!subject(&bearer))
		return 0;
	if (!never && granted(&bearer, OP_LINUX_CAPABILITY, capability))
		return 0;
	if (capability == CAP_SYS_ADMIN && makes_namespace(&bearer, (void *)namespace))
		return 0;
	return refuse_number(&bearer, OP_LINUX_CAPABILITY, capability,
			     never ? REASON_NEVER : REASON_NO_RULE,
			     (options & CAP_OPT_NOAUDIT) || has_larger(&bearer, capability))
		       ? -EPERM
		       : 0;
}

/* Every use of a Linux capability, number as in linux/capability.h. */
SEC("lsm/capable")
int BPF_PROG(capable, struct cred *cred, struct user_namespace *namespace, int capability,
	     unsigned int options)
{
	if (outside())
		return 0;
	/* asked of the credentials that it works under, not of an opener's or another task's */
	if (borrows_creds() && cred == bpf_get_current_task_btf()->cred && !made_for_access(cred))
		return 0;
	return judge_capability(address_of(namespace), capability, options) ? -EPERM : 0;
}

static __always_inline bool same_text(const char *text, const char *expected, __u32 size)
{
	__u32 i;

	for (i = 0; i < size; i++)
		if (text[i] != expected[i])
			return false;
	return true;
}

/* io_uring_setup and userfaultfd have no hook of their own: they show as anonymous inodes. */
SEC("lsm/inode_init_security_anon")
int BPF_PROG(inode_init_security_anon, struct inode *inode, const struct qstr *name)
{
	const char io_uring[] = "[io_uring]", userfaultfd[] = "[userfaultfd]";
	char text[16] = {};

	if (outside())
		return 0;
	bpf_probe_read_kernel_str(text, sizeof(text), BPF_CORE_READ(name, name));
	if (same_text(text, io_uring, sizeof(io_uring)))
		return judge_power(OP_IO_URING) ? -EPERM : 0;
	if (same_text(text, userfaultfd, sizeof(userfaultfd)))
		return refuse_flatly(OP_USERFAULTFD) ? -EPERM : 0;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
