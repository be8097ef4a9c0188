// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain file: what changes the tree of names: making, removing, linking, moving.
 */
#include "claim.bpf.h"
#include "guard.bpf.h"
#include "rule.bpf.h"

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

/* Admitted scripts and the directories above them. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SUBJECTS_MAX);
	__type(key, struct subject_key);
	__type(value, __u32); /* 1 */
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} script_ways SEC(".maps");

/*
 * After the decision about a script its interpreter opens it by its name, under its label: no
 * subject puts another file there.
 */
__noinline bool leads_to_script(__u64 dentry)
{
	struct subject_key key = {};
	__u64 inode = inode_of(dentry);

	if (!inode)
		return false;
	key_of(inode, &key);
	return bpf_map_lookup_elem(&script_ways, &key);
}

static __always_inline int judge_removal(__u64 dentry, __u64 mount)
{
	struct bearer bearer;

	/* not by outside() alone: who was refused once has a scratch, and passes that */
	if (subject(&bearer)) {
		if (judge_at(dentry, mount, BIT(RIGHT_DELETE)))
			return -EPERM;
		if (leads_to_script(dentry) && refuse_flatly(&bearer, OP_MOVE, dentry, mount))
			return -EPERM;
	}
	/* also of a subject in audit mode */
	return guard_name(dentry, mount);
}

SEC("lsm/path_unlink")
int BPF_PROG(path_unlink, const struct path *dir, struct dentry *dentry)
{
	return judge_removal(address_of(dentry), (__u64)BPF_CORE_READ(dir, mnt)) ? -EPERM : 0;
}

SEC("lsm/path_rmdir")
int BPF_PROG(path_rmdir, const struct path *dir, struct dentry *dentry)
{
	return judge_removal(address_of(dentry), (__u64)BPF_CORE_READ(dir, mnt)) ? -EPERM : 0;
}

/*
 * Moving never widens: what stands at `to` afterwards may not have rights there that it lacks at
 * `from`, and neither what is at or above the beginning of a rule moves, nor what stands at a
 * claimed path and is not admitted.
 */
__noinline int judge_move(const struct bearer *bearer, const struct place *from,
			  const struct place *to)
{
	struct found source, target;
	bool device;
	__u16 mode;

	if (!bearer || !from || !to)
		return -EPERM;
	/* also of a subject in audit mode */
	if (guard_name(from->dentry, from->mount) || guard_name(to->dentry, to->mount))
		return -EPERM;
	mode = mode_of(from->dentry);
	device = is_device(mode);
	/* while it is started under its claimed name, it must not get another */
	if (claimant_of_other(inode_of(from->dentry), from->dentry, from->mount))
		goto refused;
	if (leads_to_script(from->dentry) || leads_to_script(to->dentry))
		goto refused;
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
		return guard_name(address_of(old_dentry), (__u64)BPF_CORE_READ(old_dir, mnt)) ||
				       guard_name(address_of(new_dentry),
						  (__u64)BPF_CORE_READ(new_dir, mnt))
			       ? -EPERM
			       : 0;
	/* leaves a device node behind, as mknod makes one */
	if ((flags & RENAME_WHITEOUT) &&
	    refuse_flatly(&bearer, OP_DEVICE_NODE, 0, (__u64)BPF_CORE_READ(old_dir, mnt)))
		return -EPERM;
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
