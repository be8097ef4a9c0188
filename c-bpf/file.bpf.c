// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain file: opening, changing, creating, deleting and moving files. Rules are keyed by the path
 * that the walker gives; without a rule a subject is refused. Also keeps everybody from writing to
 * admitted executables, and tells the mount to hooks that see only a dentry.
 */
#include "compat.bpf.h"
#include "identity.bpf.h"
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
	if (!subject(&bearer))
		return 0;
	/* execve's own open: decided by the exec hooks */
	if (file->f_flags & FMODE_EXEC_FLAG)
		return 0;
	place = place_of((__u64)file->f_path.dentry, (__u64)file->f_path.mnt, 0);
	if (internal_mount(place.mount) && in_force(&bearer))
		return 0; /* own pipes, sockets, memfds by /proc/self/fd; overlay's own layers */
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
	} else if (is_device(mode) && !on_devpts(place.dentry)) {
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

/*
 * A new size by a descriptor. What has no name in any tree (a memfd, a file that was deleted while
 * it was open) was judged when it was opened; so was what this very subject has created.
 */
__noinline int judge_resize(__u64 dentry, __u64 mount, bool created)
{
	struct place place = place_of(dentry, mount, BIT(created ? RIGHT_CREATE : RIGHT_WRITE));
	struct bearer bearer;

	if (!subject(&bearer))
		return 0;
	if (in_force(&bearer) && (internal_mount(mount) || deleted(dentry)))
		return 0;
	return judge(&bearer, &place) ? -EPERM : 0;
}

/*
 * Before 6.2 ftruncate comes here too, alone without having taken write access to the mount. Who
 * created the file is not known here: whoever may create there.
 */
static __always_inline int judge_size(__u64 dentry, __u64 mount)
{
	struct place place = place_of(dentry, mount, 0);
	struct scratch *scratch;
	struct bearer bearer;
	struct found found;

	if (!subject(&bearer))
		return 0;
	scratch = scratch_of_current();
	if (!scratch || scratch->mount)
		return judge_at(dentry, mount, BIT(RIGHT_WRITE));
	if (survey(&bearer, &place, false, &found))
		found.here = 0;
	found.here &= BIT(RIGHT_WRITE) | BIT(RIGHT_CREATE);
	return judge_resize(dentry, mount, found.here == BIT(RIGHT_CREATE));
}

SEC("lsm/path_truncate")
int BPF_PROG(path_truncate, const struct path *path)
{
	struct location where = location_of(path);
	__u64 inode = inode_of(where.dentry);

	if (write_blocked(inode))
		return refuse_pinned(inode, where.dentry, where.mount) ? -EPERM : 0;
	if (outside())
		return 0;
	return judge_size(where.dentry, where.mount) ? -EPERM : 0;
}

/* Since 6.2 (3350607dc563) ftruncate and O_TRUNC come here instead of path_truncate. */
SEC("?lsm/file_truncate")
int BPF_PROG(file_truncate, struct file *file)
{
	struct location where = location_of(&file->f_path);
	__u64 inode = (__u64)BPF_CORE_READ(file, f_inode);
	bool created;

	if (write_blocked(inode))
		return refuse_pinned(inode, where.dentry, where.mount) ? -EPERM : 0;
	if (outside())
		return 0;
	created = BPF_CORE_READ(file, f_mode) & FMODE_CREATED;
	return judge_resize(where.dentry, where.mount, created) ? -EPERM : 0;
}

SEC("lsm/path_chmod")
int BPF_PROG(path_chmod, const struct path *path, unsigned short mode)
{
	struct location where;

	if (outside())
		return 0;
	where = location_of(path);
	return judge_at(where.dentry, where.mount,
			BIT(RIGHT_WRITE) | ((mode & S_ISUGID) ? BIT(RIGHT_SETUID) : 0))
		       ? -EPERM
		       : 0;
}

SEC("lsm/path_chown")
int BPF_PROG(path_chown, const struct path *path)
{
	struct location where;

	if (outside())
		return 0;
	where = location_of(path);
	return judge_at(where.dentry, where.mount, BIT(RIGHT_WRITE)) ? -EPERM : 0;
}

/* inotify, dnotify, fanotify: the names of what happens in a directory are its content. */
SEC("lsm/path_notify")
int BPF_PROG(path_notify, const struct path *path)
{
	struct location where;

	if (outside())
		return 0;
	where = location_of(path);
	return judge_at(where.dentry, where.mount, BIT(RIGHT_READ)) ? -EPERM : 0;
}

/*
 * Hooks that see only a dentry. The mount that write access was taken on names the path; the same
 * dentry may hang in several. None noted: denied.
 */
__noinline int judge_noted(__u64 dentry)
{
	struct scratch *scratch;
	struct bearer bearer;
	struct place place;
	__u64 mount;

	if (!subject(&bearer))
		return 0;
	/* a copy-up: the file in the overlay was judged by its own name before */
	if (borrows_creds() && in_force(&bearer))
		return 0;
	scratch = scratch_of_current();
	if (!scratch || !scratch->mount)
		return refuse_flatly(&bearer, RIGHT_WRITE, 0, 0) ? -EPERM : 0;
	mount = scratch->mount;
	/* a layer of an overlay that was judged by its own name before (copy-up) */
	if (BPF_CORE_READ((struct vfsmount *)mount, mnt_sb) !=
	    BPF_CORE_READ((struct dentry *)dentry, d_sb))
		return 0;
	place = place_of(dentry, mount, BIT(RIGHT_WRITE));
	return judge(&bearer, &place) ? -EPERM : 0;
}

/* utimes has no path hook; everything else that sets attributes has one, and is decided there. */
SEC("lsm/inode_setattr")
int inode_setattr(unsigned long long *ctx)
{
	struct iattr *attr;
	struct dentry *dentry;
	__u32 valid;
	__u64 inode;

	attr = setattr_iattr(ctx);
	dentry = setattr_dentry(ctx);
	valid = BPF_CORE_READ(attr, ia_valid);
	/* overlayfs cuts the file in its upper layer without asking the path hooks about that one
	 */
	inode = inode_of(address_of(dentry));
	if ((valid & ATTR_SIZE) && write_blocked(inode))
		return refuse_pinned(inode, 0, 0) ? -EPERM : 0;
	if (outside())
		return 0;
	if (valid & (ATTR_ELSEWHERE | ATTR_FORCE))
		return 0;
	return judge_noted(address_of(dentry)) ? -EPERM : 0;
}

SEC("lsm/inode_setxattr")
int BPF_PROG(inode_setxattr, void *idmap, struct dentry *dentry)
{
	if (outside())
		return 0;
	return judge_noted(address_of(dentry)) ? -EPERM : 0;
}

SEC("lsm/inode_removexattr")
int BPF_PROG(inode_removexattr, void *idmap, struct dentry *dentry)
{
	if (outside())
		return 0;
	return judge_noted(address_of(dentry)) ? -EPERM : 0;
}

/* Since 6.2 (72b3897e7872) ACLs no longer pass the xattr hooks. */
SEC("?lsm/inode_set_acl")
int BPF_PROG(inode_set_acl, void *idmap, struct dentry *dentry)
{
	if (outside())
		return 0;
	return judge_noted(address_of(dentry)) ? -EPERM : 0;
}

SEC("?lsm/inode_remove_acl")
int BPF_PROG(inode_remove_acl, void *idmap, struct dentry *dentry)
{
	if (outside())
		return 0;
	return judge_noted(address_of(dentry)) ? -EPERM : 0;
}

/*
 * Which mount a subject's thread is writing through. Overlay takes its own private upper mount
 * after the one that the user named: internal ones are not noted, and do not clear either.
 */
__noinline int note_mount(__u64 mount, bool taken)
{
	struct scratch *scratch;
	struct bearer bearer;

	if (!subject(&bearer) || internal_mount(mount))
		return 0;
	scratch = scratch_of_current();
	if (!scratch)
		return 0; /* unknown stays unknown, and that denies */
	if (taken)
		scratch->mount = mount;
	else if (scratch->mount == mount)
		scratch->mount = 0;
	return 0;
}

SEC("fentry/mnt_want_write")
int BPF_PROG(mnt_want_write, struct vfsmount *mount)
{
	if (!outside())
		note_mount(address_of(mount), true);
	return 0;
}

SEC("fentry/mnt_want_write_file")
int BPF_PROG(mnt_want_write_file, struct file *file)
{
	if (!outside())
		note_mount((__u64)BPF_CORE_READ(file, f_path.mnt), true);
	return 0;
}

SEC("fentry/mnt_drop_write")
int BPF_PROG(mnt_drop_write, struct vfsmount *mount)
{
	if (!outside())
		note_mount(address_of(mount), false);
	return 0;
}

SEC("fentry/mnt_drop_write_file")
int BPF_PROG(mnt_drop_write_file, struct file *file)
{
	if (!outside())
		note_mount((__u64)BPF_CORE_READ(file, f_path.mnt), false);
	return 0;
}

SEC("lsm/path_mknod")
int BPF_PROG(path_mknod, const struct path *dir, struct dentry *dentry, unsigned short mode,
	     unsigned int dev)
{
	__u64 mount;
	struct bearer bearer;

	if (outside())
		return 0;
	mount = (__u64)BPF_CORE_READ(dir, mnt);
	if (is_device(mode)) {
		if (!subject(&bearer))
			return 0;
		return refuse_flatly(&bearer, OP_DEVICE_NODE, 0, mount) ? -EPERM : 0;
	}
	return judge_at(address_of(dentry), mount,
			BIT(RIGHT_CREATE) | ((mode & S_ISUGID) ? BIT(RIGHT_SETUID) : 0))
		       ? -EPERM
		       : 0;
}

SEC("lsm/path_mkdir")
int BPF_PROG(path_mkdir, const struct path *dir, struct dentry *dentry, unsigned short mode)
{
	if (outside())
		return 0;
	return judge_at(address_of(dentry), (__u64)BPF_CORE_READ(dir, mnt),
			BIT(RIGHT_CREATE) | ((mode & S_ISUGID) ? BIT(RIGHT_SETUID) : 0))
		       ? -EPERM
		       : 0;
}

SEC("lsm/path_symlink")
int BPF_PROG(path_symlink, const struct path *dir, struct dentry *dentry)
{
	if (outside())
		return 0;
	return judge_at(address_of(dentry), (__u64)BPF_CORE_READ(dir, mnt), BIT(RIGHT_CREATE))
		       ? -EPERM
		       : 0;
}

SEC("lsm/path_unlink")
int BPF_PROG(path_unlink, const struct path *dir, struct dentry *dentry)
{
	if (outside())
		return 0;
	return judge_at(address_of(dentry), (__u64)BPF_CORE_READ(dir, mnt), BIT(RIGHT_DELETE))
		       ? -EPERM
		       : 0;
}

SEC("lsm/path_rmdir")
int BPF_PROG(path_rmdir, const struct path *dir, struct dentry *dentry)
{
	if (outside())
		return 0;
	return judge_at(address_of(dentry), (__u64)BPF_CORE_READ(dir, mnt), BIT(RIGHT_DELETE))
		       ? -EPERM
		       : 0;
}

/*
 * Moving never widens: what stands at `to` afterwards may not have rights there that it lacks at
 * `from`, and nothing at or above the beginning of a rule moves.
 */
__noinline int judge_move(const struct bearer *bearer, const struct place *from,
			  const struct place *to)
{
	struct found source, target;
	bool device;
	__u16 mode;

	if (!bearer || !from || !to)
		return -EPERM;
	mode = mode_of(from->dentry);
	device = is_device(mode);
	if (survey(bearer, from, device, &source) || survey(bearer, to, device, &target))
		goto refused;
	if (target.here & ~source.here)
		goto refused;
	if ((mode & S_IFMT) == S_IFDIR) {
		if (target.below & ~source.below)
			goto refused;
		if ((source.flags | target.flags) & NODE_ANCESTOR)
			goto refused;
	}
	return 0;
refused:
	return refuse_flatly(bearer, OP_MOVE, to->dentry, to->mount) ? -EPERM : 0;
}

SEC("lsm/path_link")
int BPF_PROG(path_link, struct dentry *old_dentry, const struct path *new_dir,
	     struct dentry *new_dentry)
{
	struct bearer bearer;
	struct place from, to;
	__u64 mount;

	if (!subject(&bearer))
		return 0;
	mount = (__u64)BPF_CORE_READ(new_dir, mnt);
	from = place_of(address_of(old_dentry), mount, 0);
	to = place_of(address_of(new_dentry), mount, BIT(RIGHT_CREATE));
	if (judge(&bearer, &to))
		return -EPERM;
	/* O_TMPFILE: made here by this subject, named now */
	return judge_move(&bearer, &from, &to) ? -EPERM : 0;
}

SEC("lsm/path_rename")
int BPF_PROG(path_rename, const struct path *old_dir, struct dentry *old_dentry,
	     const struct path *new_dir, struct dentry *new_dentry, unsigned int flags)
{
	struct bearer bearer;
	struct place from, to;

	if (!subject(&bearer))
		return 0;
	from = place_of(address_of(old_dentry), (__u64)BPF_CORE_READ(old_dir, mnt),
			BIT(RIGHT_DELETE));
	to = place_of(address_of(new_dentry), (__u64)BPF_CORE_READ(new_dir, mnt),
		      BIT(RIGHT_CREATE));
	/* what stood at the new name goes away */
	if (mode_of(to.dentry))
		to.wanted |= BIT(RIGHT_DELETE);
	if (flags & RENAME_EXCHANGE)
		from.wanted |= BIT(RIGHT_CREATE);
	if (judge(&bearer, &from) || judge(&bearer, &to))
		return -EPERM;
	if (judge_move(&bearer, &from, &to))
		return -EPERM;
	if (flags & RENAME_EXCHANGE)
		return judge_move(&bearer, &to, &from) ? -EPERM : 0;
	return 0;
}

__noinline int judge_ioctl(__u64 file, __u32 command)
{
	struct location where = location_of(&((struct file *)file)->f_path);
	__u64 dentry = where.dentry, mount = where.mount;
	struct bearer bearer;
	struct place place;

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
	case FS_IOC_SETFLAGS:
	case FS_IOC32_SETFLAGS:
	case FS_IOC_FSSETXATTR:
	case FS_IOC_ENABLE_VERITY:
	case FS_IOC_SETVERSION:
	case EXT4_IOC_SETVERSION:
	case FS_IOC_SET_ENCRYPTION_POLICY:
		place = place_of(dentry, mount, BIT(RIGHT_WRITE));
		return judge(&bearer, &place) ? -EPERM : 0;
	}
	return 0;
}

SEC("lsm/file_ioctl")
int BPF_PROG(file_ioctl, struct file *file, unsigned int command)
{
	if (outside())
		return 0;
	return judge_ioctl(address_of(file), command) ? -EPERM : 0;
}

/* Since 6.8 (f1bb47a31dff), also in later stable kernels; before, compat calls came to file_ioctl.
 */
SEC("?lsm/file_ioctl_compat")
int BPF_PROG(file_ioctl_compat, struct file *file, unsigned int command)
{
	if (outside())
		return 0;
	return judge_ioctl(address_of(file), command) ? -EPERM : 0;
}

char LICENSE[] SEC("license") = "GPL";
