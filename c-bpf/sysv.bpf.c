// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain ipc: shared memory, semaphores and message queues of System V, and the making of POSIX
 * message queues. A subject uses what its own subject has made, and nothing else; there is no rule
 * that would allow more. What a subject has made others may use as its permissions say.
 */
#include "queue.bpf.h"

/* Objects of all subjects together. */
#define IPC_OBJECTS_MAX 65536

/* Address of a kern_ipc_perm -> the slot of its maker. What outsiders make is not here. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, IPC_OBJECTS_MAX);
	__type(key, __u64);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} ipc_objects SEC(".maps");

static __always_inline int refuse_object(const struct bearer *bearer, __u64 object, __u8 reason)
{
	struct attempt attempt = {
		.domain = DOMAIN_IPC,
		.operation = OP_IPC_OBJECT,
		.object_kind = OBJECT_NUMBER,
	};

	attempt.reason = reason;
	attempt.number = BPF_CORE_READ((struct kern_ipc_perm *)object, id);
	return refuse(bearer, &attempt);
}

/* 0 is no object: the limits of all are asked for. */
__noinline int judge_object(__u64 object)
{
	struct bearer bearer;
	__u32 *maker;

	if (!object || !subject(&bearer))
		return 0;
	maker = bpf_map_lookup_elem(&ipc_objects, &object);
	if (in_force(&bearer) && maker && *maker == bearer.slot)
		return 0;
	return refuse_object(&bearer, object, REASON_NEVER) ? -EPERM : 0;
}

/* What cannot be remembered would be refused to its maker later: it is not made. */
__noinline int judge_new_object(__u64 object)
{
	struct bearer bearer;

	if (!subject(&bearer))
		return 0;
	if (!in_force(&bearer) && refuse_object(&bearer, object, REASON_NEVER))
		return -EPERM;
	if (bpf_map_update_elem(&ipc_objects, &object, &bearer.slot, BPF_ANY))
		return refuse_object(&bearer, object, REASON_MEMORY) ? -EPERM : 0;
	return 0;
}

#define OBJECT_HOOK(hook, judge)                                                                   \
	SEC("lsm/" #hook)                                                                          \
	int BPF_PROG(hook, struct kern_ipc_perm *object)                                           \
	{                                                                                          \
		if (outside())                                                                     \
			return 0;                                                                  \
		return judge(address_of(object)) ? -EPERM : 0;                                     \
	}

/* Finding one by its key, attaching, sending, receiving, operations, and asking for its state. */
OBJECT_HOOK(ipc_permission, judge_object)
/* Removing, changing its owner and permissions, locking, and the ways to ask without permission. */
OBJECT_HOOK(shm_shmctl, judge_object)
OBJECT_HOOK(sem_semctl, judge_object)
OBJECT_HOOK(msg_queue_msgctl, judge_object)

OBJECT_HOOK(shm_alloc_security, judge_new_object)
OBJECT_HOOK(sem_alloc_security, judge_new_object)
OBJECT_HOOK(msg_queue_alloc_security, judge_new_object)

/* Whoever runs when the memory is freed: all objects are looked up. */
#define FREE_HOOK(hook)                                                                            \
	SEC("lsm/" #hook)                                                                          \
	int BPF_PROG(hook, struct kern_ipc_perm *object)                                           \
	{                                                                                          \
		__u64 address = address_of(object);                                                \
                                                                                                   \
		if (bpf_map_lookup_elem(&ipc_objects, &address))                                   \
			bpf_map_delete_elem(&ipc_objects, &address);                               \
		return 0;                                                                          \
	}

FREE_HOOK(shm_free_security)
FREE_HOOK(sem_free_security)
FREE_HOOK(msg_queue_free_security)

/* The hook for a new inode would cost everybody who makes files. */
SEC("fexit/mqueue_create_attr")
int BPF_PROG(mqueue_create_attr, struct dentry *dentry, __u16 mode, void *attributes, int result)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct made_queue made = {};
	struct bearer bearer;
	__u64 thread;

	if (outside() || result || !mirrored_subject(&bearer))
		return 0;
	thread = address_of(task);
	made.ino = BPF_CORE_READ(dentry, d_inode, i_ino);
	made.start_time = task->start_time;
	bpf_map_update_elem(&made_queues, &thread, &made, BPF_ANY);
	return 0;
}
