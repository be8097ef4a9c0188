// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain privilege: powers over the machine rather than over files: mounts, namespaces, Linux
 * capabilities, BPF, perf, modules, keyrings, io_uring. No rule grants any of them in this version:
 * a subject is refused flatly. Every hook here is the same sentence with another word.
 */
#include "compat.bpf.h"
#include "report.bpf.h"

static __always_inline int refuse_flatly(__u32 operation, __u32 number, bool silent)
{
	struct attempt attempt = {
		.domain = DOMAIN_PRIVILEGE,
		.reason = REASON_NEVER,
		.object_kind = OBJECT_NUMBER,
	};
	struct bearer bearer;

	if (!subject(&bearer))
		return 0;
	attempt.operation = operation;
	attempt.number = number;
	attempt.silent = silent;
	return refuse(&bearer, &attempt);
}

#define REFUSED_HOOK(hook, operation)                                                              \
	SEC("lsm/" #hook)                                                                          \
	int hook(unsigned long long *ctx)                                                          \
	{                                                                                          \
		return refuse_flatly(operation, 0, false) ? -EPERM : 0;                            \
	}

/* fsopen, fsmount, open_tree, mount_setattr and setns have no hook: `capable` refuses them. */
REFUSED_HOOK(sb_mount, OP_MOUNT)
REFUSED_HOOK(sb_umount, OP_MOUNT)
REFUSED_HOOK(sb_remount, OP_MOUNT)
REFUSED_HOOK(sb_pivotroot, OP_MOUNT)
REFUSED_HOOK(move_mount, OP_MOUNT)
REFUSED_HOOK(path_chroot, OP_CHROOT)
REFUSED_HOOK(userns_create, OP_NAMESPACE)
REFUSED_HOOK(bpf, OP_BPF)
REFUSED_HOOK(bpf_map, OP_BPF)
REFUSED_HOOK(bpf_prog, OP_BPF)
REFUSED_HOOK(perf_event_open, OP_PERF)
REFUSED_HOOK(kernel_read_file, OP_MODULE)
REFUSED_HOOK(kernel_load_data, OP_MODULE)
REFUSED_HOOK(kernel_module_request, OP_MODULE)
REFUSED_HOOK(key_alloc, OP_KEYRING)
REFUSED_HOOK(key_permission, OP_KEYRING)
REFUSED_HOOK(uring_sqpoll, OP_IO_URING)
REFUSED_HOOK(uring_override_creds, OP_IO_URING)
REFUSED_HOOK(uring_cmd, OP_IO_URING)

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
	return refuse_flatly(OP_LINUX_CAPABILITY, capability, options & CAP_OPT_NOAUDIT) ? -EPERM
											 : 0;
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
		return refuse_flatly(OP_IO_URING, 0, false) ? -EPERM : 0;
	if (same_text(text, userfaultfd, sizeof(userfaultfd)))
		return refuse_flatly(OP_USERFAULTFD, 0, false) ? -EPERM : 0;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
