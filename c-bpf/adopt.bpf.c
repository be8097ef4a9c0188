// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain exec: what the daemon starts and no hook does. Labels the tasks that run already, and
 * tells what a file is to the kernel.
 */
#include "identity.bpf.h"
#include "label.bpf.h"
#include "path.bpf.h"
#include "unit.bpf.h"

/*
 * Adoption: binds running processes whose executable is an admitted one, and their children. The
 * daemon repeats it until `adopted` stays, after every attach and admission, and reads of each
 * which process it is.
 */
__u64 adopted = 0;     /* processes labelled since load */
__u32 spared_tgid = 0; /* the daemon itself */

/* The slot that a running process belongs to by its executable, or by its parent's label. */
static __always_inline __u32 slot_by_running(struct task_struct *task)
{
	struct bearer bearer = {};
	struct subject *entry;
	struct label *parent;
	struct file *exe;
	__u32 slot;

	exe = BPF_CORE_READ(task, mm, exe_file);
	if (!exe)
		return 0;
	slot = is_being_made(task) ? 0 : slot_by_unit(task);
	if (slot) {
		bearer.slot = slot;
		read_slot(&bearer);
		if (in_force(&bearer))
			return slot;
	}
	entry = subject_of((__u64)BPF_CORE_READ(exe, f_inode));
	if (entry && !(entry->flags & SUBJECT_SCRIPT)) {
		bearer.slot = entry->slot;
		read_slot(&bearer);
		if (in_force(&bearer))
			return entry->slot;
	}
	/* what a parent started before it became a subject by an exec of its own is none of it */
	parent = bpf_task_storage_get(&labels, task->real_parent->group_leader, NULL, 0);
	return parent && parent->adopted ? parent->slot : 0;
}

/* Every thread is looked at: a main thread that has ended has no executable any more. */
SEC("iter/task")
int adopt(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct bound_task bound = {};
	struct task_struct *leader;
	struct label *label;
	__u64 address;
	__u32 slot;

	if (!task)
		return 0;
	leader = task->group_leader;
	if (!leader || task->tgid == 1 || task->tgid == spared_tgid)
		return 0;
	label = bpf_task_storage_get(&labels, leader, NULL, 0);
	if (label && label->slot)
		return 0;
	slot = slot_by_running(task);
	if (!slot)
		return 0;
	label = bpf_task_storage_get(&labels, leader, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!label)
		return 0;
	/* no room: the kernel asks again about the same task */
	bound.slot = slot;
	bound.tgid = task->tgid;
	if (bpf_seq_write(ctx->meta->seq, &bound, sizeof(bound)))
		return 0;
	address = address_of(leader);
	/* the mirror first: from here on a storage that cannot be read denies */
	if (bpf_map_update_elem(&mirror, &address, &slot, BPF_ANY))
		return 0;
	label->adopted = 1;
	label->slot = slot;
	__sync_fetch_and_add(&adopted, 1);
	return 0;
}

/*
 * What the kernel knows of a descriptor of the caller: the key that the hooks will see (st_dev
 * differs on btrfs and overlayfs), who writes to it, and the path as rules see it. Run by the
 * daemon, and by tests on any kernel, with BPF_PROG_TEST_RUN.
 */
struct identity identified = {};

/*
 * Not the task's own scratch: this program may sleep, also while it makes a storage, and on 6.1
 * every other task on that CPU finds its storage unreadable meanwhile, which denies.
 */
struct {
	__uint(type, BPF_MAP_TYPE_ARRAY);
	__uint(max_entries, 1);
	__type(key, __u32);
	__type(value, struct scratch);
} identify_scratch SEC(".maps");

struct identify_request {
	__s32 fd;
};

SEC("syscall")
int identify(struct identify_request *request)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *scratch;
	struct fdtable *table;
	struct file **slot;
	struct file *file = NULL;
	struct inode *inode;
	struct location where;
	__u32 leaf = 0, zero = 0;
	int at;

	identified.error = -EBADF;
	identified.length = 0;
	if (request->fd < 0)
		return 0;
	table = BPF_CORE_READ(task, files, fdt);
	if ((__u32)request->fd >= BPF_CORE_READ(table, max_fds))
		return 0;
	slot = BPF_CORE_READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), slot + request->fd);
	if (!file)
		return 0;
	inode = BPF_CORE_READ(file, f_inode);
	key_of((__u64)inode, &identified.key);
	identified.magic = BPF_CORE_READ(inode, i_sb, s_magic);
	identified.writers = BPF_CORE_READ(inode, i_writecount.counter);
	identified.error = -ENOMEM;
	scratch = bpf_map_lookup_elem(&identify_scratch, &zero);
	if (!scratch)
		return 0;
	where = location_of(&file->f_path);
	identified.error = -ENOENT;
	if (deleted(where.dentry) || !own_namespace(where.mount))
		return 0;
	at = walk_path(scratch, where.dentry, where.mount, &leaf);
	if (at < 0)
		return 0;
	at &= WALK_MAX - 1;
	identified.length = WALK_MAX - 1 - at;
	bpf_probe_read_kernel_str(identified.path, WALK_MAX, &scratch->path[at]);
	identified.error = 0;
	return 0;
}
