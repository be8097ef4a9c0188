// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain file: size, locks, mode, owner, times, xattrs and ACLs of what exists. Hooks that see only
 * a dentry learn here through which mount the task is writing.
 */
#include "compat.bpf.h"
#include "identity.bpf.h"
#include "rule.bpf.h"

/*
 * A new size by a descriptor, or a lock. What has no name in any tree (a memfd, a file that was
 * deleted while it was open) was judged when it was opened; so was what this very subject has
 * created.
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

/* Where it is not known who created the file: whoever may create there. */
static __always_inline int judge_made(const struct bearer *bearer, __u64 dentry, __u64 mount)
{
	struct place place = place_of(dentry, mount, 0);
	struct found found;

	if (survey(bearer, &place, false, &found))
		found.here = 0;
	found.here &= BIT(RIGHT_WRITE) | BIT(RIGHT_CREATE);
	return judge_resize(dentry, mount, found.here == BIT(RIGHT_CREATE));
}

/* Before 6.2 ftruncate comes here too, alone without having taken write access to the mount. */
static __always_inline int judge_size(__u64 dentry, __u64 mount)
{
	struct scratch *scratch;
	struct bearer bearer;

	if (!subject(&bearer))
		return 0;
	scratch = scratch_of_current();
	if (!scratch || scratch->mount)
		return judge_at(dentry, mount, BIT(RIGHT_WRITE));
	return judge_made(&bearer, dentry, mount);
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

__noinline int judge_lock(__u64 dentry, __u64 mount)
{
	struct bearer bearer;

	if (!subject(&bearer))
		return 0;
	return judge_made(&bearer, dentry, mount) ? -EPERM : 0;
}

/*
 * flock, fcntl and leases. An exclusive lock keeps others out of a file, and for flock and a lease
 * a read-only descriptor is enough.
 */
SEC("lsm/file_lock")
int BPF_PROG(file_lock, struct file *file, unsigned int command)
{
	struct location where;

	if (outside() || command != F_WRLCK)
		return 0;
	if (BPF_CORE_READ(file, f_mode) & FMODE_WRITE)
		return 0;
	where = location_of(&file->f_path);
	return judge_lock(where.dentry, where.mount) ? -EPERM : 0;
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
__noinline int judge_noted(__u64 dentry, __u32 wanted)
{
	struct scratch *scratch;
	struct bearer bearer;
	struct place place;
	__u64 mount, sb;

	if (!subject(&bearer))
		return 0;
	/* a copy-up: the file in the overlay was judged by its own name before */
	if (borrows_creds() && in_force(&bearer))
		return 0;
	scratch = scratch_of_current();
	if (!scratch || !scratch->mount)
		return refuse_flatly(&bearer, RIGHT_WRITE, 0, 0) ? -EPERM : 0;
	mount = scratch->mount;
	sb = (__u64)BPF_CORE_READ((struct vfsmount *)mount, mnt_sb);
	if (sb != (__u64)BPF_CORE_READ((struct dentry *)dentry, d_sb)) {
		/* a layer of an overlay that was judged by its own name before (copy-up) */
		if (BPF_CORE_READ((struct super_block *)sb, s_magic) == OVERLAYFS_SUPER_MAGIC)
			return 0;
		/* a mount that is not the one of this call */
		return refuse_flatly(&bearer, RIGHT_WRITE, 0, 0) ? -EPERM : 0;
	}
	place = place_of(dentry, mount, wanted);
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
	return judge_noted(address_of(dentry), BIT(RIGHT_WRITE)) ? -EPERM : 0;
}

/* Linux capabilities of a file give rights to whoever runs it, as set-id bits do. */
static __always_inline bool is_file_capability(const char *name)
{
	const char expected[] = "security.capability";
	char text[sizeof(expected)] = {};
	__u32 i;

	bpf_probe_read_kernel_str(text, sizeof(text), name);
	for (i = 0; i < sizeof(expected); i++)
		if (text[i] != expected[i])
			return false;
	return true;
}

SEC("lsm/inode_setxattr")
int BPF_PROG(inode_setxattr, void *idmap, struct dentry *dentry, const char *name)
{
	__u32 wanted = BIT(RIGHT_WRITE);

	if (outside())
		return 0;
	if (is_file_capability(name))
		wanted |= BIT(RIGHT_SETUID);
	return judge_noted(address_of(dentry), wanted) ? -EPERM : 0;
}

SEC("lsm/inode_removexattr")
int BPF_PROG(inode_removexattr, void *idmap, struct dentry *dentry)
{
	if (outside())
		return 0;
	return judge_noted(address_of(dentry), BIT(RIGHT_WRITE)) ? -EPERM : 0;
}

/* Since 6.2 (72b3897e7872) ACLs no longer pass the xattr hooks. */
SEC("?lsm/inode_set_acl")
int BPF_PROG(inode_set_acl, void *idmap, struct dentry *dentry)
{
	if (outside())
		return 0;
	return judge_noted(address_of(dentry), BIT(RIGHT_WRITE)) ? -EPERM : 0;
}

SEC("?lsm/inode_remove_acl")
int BPF_PROG(inode_remove_acl, void *idmap, struct dentry *dentry)
{
	if (outside())
		return 0;
	return judge_noted(address_of(dentry), BIT(RIGHT_WRITE)) ? -EPERM : 0;
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
