// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain file: opening files and what is done by descriptors. Rules are keyed by the path that the
 * walker gives; without a rule a subject is refused. Also keeps everybody from writing to admitted
 * executables.
 */
#include "compat.bpf.h"
#include "claim.bpf.h"
#include "process.bpf.h"
#include "queue.bpf.h"
#include "rule.bpf.h"

/* What a plan says of one path. */
struct found {
	__u8 here;  /* rights at this path */
	__u8 below; /* rights of what is below it, where no rule begins below */
	__u8 flags; /* NODE_* */
};

/*
 * What the plan grants at a path and below it, to a device if it is one that shall be there;
 * nothing is counted or told.
 */
__noinline int survey(const struct bearer *bearer, const struct place *place, bool device,
		      struct found *found)
{
	struct scratch *scratch = scratch_of_current();
	struct file_rule *rule;
	__u32 leaf = 0;
	int at;

	if (!bearer || !place || !found)
		return -1;
	*found = (struct found){};
	if (!scratch)
		return -1;
	if (bearer->flags & PLAN_EXCEPT && has_spellings(place->dentry))
		return -1;
	at = walk_path(scratch, place->dentry, place->mount, &leaf);
	if (at < 0)
		return -1;
	rule = find_rule(bearer, scratch, at);
	if (!rule)
		return 0;
	if (is_deep(rule, at, leaf))
		found->here = device ? 0 : rule->deep_mask;
	else
		found->here = device ? rule->near_mask & rule->exact_mask : rule->near_mask;
	found->below = rule->deep_mask;
	found->flags = rule->flags;
	return 0;
}

static __always_inline struct place place_of(__u64 dentry, __u64 mount, __u8 wanted)
{
	struct place place = {
		.dentry = dentry,
		.mount = mount,
		.wanted = wanted,
		.domain = DOMAIN_FILE,
	};

	return place;
}

/* Says that something is never allowed to a subject, whatever its plan. */
__noinline int refuse_flatly(const struct bearer *bearer, __u32 operation, __u64 dentry,
			     __u64 mount)
{
	struct attempt attempt = {
		.domain = DOMAIN_FILE,
		.reason = REASON_NEVER,
	};

	attempt.operation = operation;
	name_object(&attempt, dentry, mount);
	return refuse(bearer, &attempt) ? -EPERM : 0;
}

/* Nobody writes to an admitted executable: told on behalf of the artifact whose it is. */
__noinline int refuse_pinned(__u64 inode, __u64 dentry, __u64 mount)
{
	struct subject_key key = {};
	struct subject *entry;
	struct attempt attempt = {
		.domain = DOMAIN_FILE,
		.operation = OP_PINNED,
		.reason = REASON_NEVER,
		.always = 1,
	};
	struct bearer bearer = {};

	key_of(inode, &key);
	entry = bpf_map_lookup_elem(&subjects, &key);
	if (!entry)
		return 0;
	bearer.slot = entry->slot;
	read_slot(&bearer);
	/* the file's own state is not the reason */
	bearer.state = SLOT_ADMITTED;
	name_object(&attempt, dentry, mount);
	refuse(&bearer, &attempt);
	return -EPERM;
}

static __always_inline __u64 inode_of(__u64 dentry)
{
	return (__u64)BPF_CORE_READ((struct dentry *)dentry, d_inode);
}

static __always_inline __u16 mode_of(__u64 dentry)
{
	struct inode *inode = (void *)inode_of(dentry);

	return inode ? BPF_CORE_READ(inode, i_mode) : 0;
}

/* /proc/PID/mem writes through read-only and executable pages: that is making code. */
static __always_inline bool is_process_memory(__u64 dentry)
{
	char name[4] = {};

	if (BPF_CORE_READ((struct dentry *)dentry, d_sb, s_magic) != PROC_SUPER_MAGIC)
		return false;
	bpf_probe_read_kernel_str(name, sizeof(name),
				  BPF_CORE_READ((struct dentry *)dentry, d_name.name));
	return name[0] == 'm' && name[1] == 'e' && name[2] == 'm' &&
	       (BPF_CORE_READ((struct dentry *)dentry, d_name.hash_len) >> 32) == 3;
}

/* Opened to be run, at a claimed path, and not what was admitted there. */
static __always_inline int refuse_other(struct file *file)
{
	struct location where = location_of(&file->f_path);
	__u32 slot = claimant_of_other((__u64)file->f_inode, where.dentry, where.mount);

	return slot ? refuse_exec(slot, OP_CLAIMED, REASON_CONTENT, where.dentry, where.mount) : 0;
}

/* False without bpf in the kernel's list of LSMs, which calls no program here either. */
const volatile bool has_inode_storage = true;

/* Marked at the open within the mq_open() that made it, see queue.bpf.h. */
struct {
	__uint(type, BPF_MAP_TYPE_INODE_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} queue_slots SEC(".maps");

/* mq_open() opens by a mount that is in no namespace. */
static __always_inline bool opens_queue(struct file *file, __u64 mount)
{
	return !namespace_of(mount) && BPF_CORE_READ(file, f_inode, i_sb, s_magic) == MQUEUE_MAGIC;
}

static __always_inline bool owns_queue(const struct bearer *bearer, struct file *file)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 thread = address_of(task);
	struct made_queue *made = bpf_map_lookup_elem(&made_queues, &thread);
	__u32 *maker;

	if (!has_inode_storage)
		return false;
	if (made && made->start_time == task->start_time && made->ino == file->f_inode->i_ino) {
		bpf_map_delete_elem(&made_queues, &thread);
		maker = bpf_inode_storage_get(&queue_slots, file->f_inode, NULL,
					      BPF_LOCAL_STORAGE_GET_F_CREATE);
		if (maker)
			*maker = bearer->slot;
	} else {
		maker = bpf_inode_storage_get(&queue_slots, file->f_inode, NULL, 0);
	}
	return maker && *maker == bearer->slot;
}

/* No rule is about the name of a queue. */
static __always_inline int judge_queue(const struct bearer *bearer, struct file *file)
{
	struct attempt attempt = {
		.domain = DOMAIN_IPC,
		.operation = OP_IPC_OBJECT,
		.reason = REASON_NEVER,
	};

	if (owns_queue(bearer, file) && in_force(bearer))
		return 0;
	return refuse(bearer, &attempt) ? -EPERM : 0;
}

SEC("lsm/file_open")
int BPF_PROG(file_open, struct file *file)
{
	struct location where;
	struct bearer bearer;
	struct place place;
	__u32 f_mode;
	__u16 mode;

	f_mode = file->f_mode;
	if ((f_mode & FMODE_WRITE) && write_blocked((__u64)file->f_inode)) {
		where = location_of(&file->f_path);
		return refuse_pinned(address_of(file->f_inode), where.dentry, where.mount) ? -EPERM
											   : 0;
	}
	/* execve's own open. The exec hooks decide, but what stands at a claimed path now may be
	 * renamed until they look. */
	if (file->f_flags & FMODE_EXEC_FLAG)
		return refuse_other(file) ? -EPERM : 0;
	if (!subject(&bearer))
		return 0;
	place = place_of((__u64)file->f_path.dentry, (__u64)file->f_path.mnt, 0);
	if (internal_mount(place.mount) && in_force(&bearer))
		return 0; /* own pipes, sockets, memfds by /proc/self/fd; overlay's own layers */
	if (opens_queue(file, place.mount))
		return judge_queue(&bearer, file) ? -EPERM : 0;
	if (f_mode & FMODE_READ)
		place.wanted |= BIT(RIGHT_READ);
	if (f_mode & FMODE_WRITE)
		place.wanted |= BIT(RIGHT_WRITE);
	if ((f_mode & FMODE_WRITE) && !(bearer.flags & PLAN_CODE_GENERATE) &&
	    is_process_memory(place.dentry)) {
		where = location_of(&file->f_path);
		return refuse_flatly(&bearer, OP_CODE_GENERATE, where.dentry, where.mount) ? -EPERM
											   : 0;
	}
	/* access mode 3: for ioctl only, and the kernel too asks for both permissions */
	if (!place.wanted)
		place.wanted = BIT(RIGHT_READ) | BIT(RIGHT_WRITE);
	mode = file->f_inode->i_mode;
	if (file->f_flags & O_TMPFILE_BIT && deleted(place.dentry)) {
		/* a new file without a name: creating it is what counts */
		place.wanted = BIT(RIGHT_CREATE);
		place.flags = PLACE_NAMELESS_FILE;
		if (mode & S_ISUGID)
			place.wanted |= BIT(RIGHT_SETUID);
	} else if (f_mode & FMODE_CREATED) {
		/* just made by this open; its maker may use it */
		place.wanted = BIT(RIGHT_CREATE);
	} else if (is_device(mode)) {
		place.flags = PLACE_DEVICE;
	}
	return judge(&bearer, &place) ? -EPERM : 0;
}

__noinline int judge_at(__u64 dentry, __u64 mount, __u32 wanted)
{
	struct bearer bearer;
	struct place place;

	if (!subject(&bearer))
		return 0;
	/* fchmod and the like on own pipes, sockets, memfds */
	if (internal_mount(mount) && in_force(&bearer))
		return 0;
	place = place_of(dentry, mount, wanted);
	return judge(&bearer, &place) ? -EPERM : 0;
}

/* What changes a file or a subvolume by a descriptor that need not be open for writing. */
static __always_inline bool sets_metadata(__u32 command)
{
	switch (command & IOC_TYPE_AND_NUMBER) {
	case BTRFS_SUBVOL_SETFLAGS:
	case BTRFS_SET_RECEIVED_SUBVOL:
		return true;
	}
	switch (command) {
	case FS_IOC_SETFLAGS:
	case FS_IOC32_SETFLAGS:
	case FS_IOC_FSSETXATTR:
	case FS_IOC_ENABLE_VERITY:
	case FS_IOC_SETVERSION:
	case EXT4_IOC_SETVERSION:
	case FS_IOC32_SETVERSION:
	case EXT4_IOC32_SETVERSION:
	case FS_IOC_SET_ENCRYPTION_POLICY:
	case FAT_IOCTL_SET_ATTRIBUTES:
		return true;
	}
	return false;
}

__noinline int judge_ioctl(__u64 file, __u32 command)
{
	struct location where = location_of(&((struct file *)file)->f_path);
	__u64 dentry = where.dentry, mount = where.mount;
	struct bearer bearer;

	if (!subject(&bearer))
		return 0;
	if (!in_force(&bearer))
		return refuse_flatly(&bearer, RIGHT_WRITE, dentry, mount) ? -EPERM : 0;
	switch (command & IOC_TYPE_AND_NUMBER) {
	/* makes and removes whole trees past the path hooks, under names that no rule has foreseen
	 */
	case BTRFS_SNAP_CREATE:
	case BTRFS_SUBVOL_CREATE:
	case BTRFS_SNAP_DESTROY:
	case BTRFS_SNAP_CREATE_V2:
	case BTRFS_SUBVOL_CREATE_V2:
	case BTRFS_SNAP_DESTROY_V2:
		return refuse_flatly(&bearer, RIGHT_CREATE, dentry, mount) ? -EPERM : 0;
	}
	switch (command) {
	case TIOCSTI:
	case TIOCLINUX:
		return refuse_flatly(&bearer, OP_TERMINAL_INJECT, dentry, mount) ? -EPERM : 0;
	case FIOSETOWN:
	case SIOCSPGRP:
		return refuse_flatly(&bearer, OP_SIGNAL, 0, 0) ? -EPERM : 0;
	case FIOASYNC:
		if (may_signal(&bearer, (struct file *)file))
			return 0;
		return refuse_flatly(&bearer, OP_SIGNAL, dentry, mount) ? -EPERM : 0;
	}
	return 0;
}

/* The generation is part of a file's identity: that of an admitted executable nobody changes. */
static __always_inline bool sets_version(unsigned int command)
{
	return command == FS_IOC_SETVERSION || command == FS_IOC32_SETVERSION ||
	       command == EXT4_IOC_SETVERSION || command == EXT4_IOC32_SETVERSION;
}

__noinline int judge_version(__u64 file)
{
	struct location where = location_of(&((struct file *)file)->f_path);
	__u64 inode = inode_of(where.dentry);

	return write_blocked(inode) ? refuse_pinned(inode, where.dentry, where.mount) : 0;
}

/* From here, as the stack is too small for judge_at() below judge_ioctl(). */
static __always_inline int judge_command(struct file *file, __u32 command)
{
	struct location where;

	if (!sets_metadata(command))
		return judge_ioctl(address_of(file), command);
	where = location_of(&file->f_path);
	return judge_at(where.dentry, where.mount, BIT(RIGHT_WRITE));
}

SEC("lsm/file_ioctl")
int BPF_PROG(file_ioctl, struct file *file, unsigned int command)
{
	if (sets_version(command) && judge_version(address_of(file)))
		return -EPERM;
	if (outside())
		return 0;
	return judge_command(file, command) ? -EPERM : 0;
}

/* Since 6.8 (f1bb47a31dff), also in later stable kernels; before, compat calls came to file_ioctl.
 */
SEC("?lsm/file_ioctl_compat")
int BPF_PROG(file_ioctl_compat, struct file *file, unsigned int command)
{
	if (sets_version(command) && judge_version(address_of(file)))
		return -EPERM;
	if (outside())
		return 0;
	return judge_command(file, command) ? -EPERM : 0;
}

/* One object and one translation unit, as maps and global functions are shared. */
#include "attribute.bpf.c"
#include "tree.bpf.c"

char LICENSE[] SEC("license") = "GPL";
