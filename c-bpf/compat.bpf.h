/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where our kernels differ. Every stanza says since when, why, and when it can go; the answer comes
 * from the running kernel's BTF, never from its version.
 */
#ifndef CARTOUCHE_COMPAT_BPF_H
#define CARTOUCHE_COMPAT_BPF_H

#include "kernel.bpf.h"

/*
 * Fields of kernel objects by plain loads: since 6.2 (a35b9af4ec2c) an address can be cast to its
 * type. Before, every read is a call that costs as much as ten loads. Remove when our oldest kernel
 * is 6.2.
 */
#define can_cast() bpf_ksym_exists(bpf_rdonly_cast)
#define CAST(type, address) bpf_core_cast((void *)(address), struct type)

/*
 * The current task, to read from. For each step from the pointer that bpf_get_current_task_btf()
 * returns, 6.12's verifier searches all its types three times by name; not from a cast.
 */
static __always_inline struct task_struct *current_task(void)
{
	if (can_cast())
		return CAST(task_struct, bpf_get_current_task());
	return bpf_get_current_task_btf();
}

/* One field, or a field of a struct inside, of the struct of this type at this address. */
#define READ(type, address, field)                                                                 \
	(can_cast() ? CAST(type, address)->field : BPF_CORE_READ((struct type *)(address), field))

/*
 * inode_setattr got the idmap as its first argument in 6.3 (c1632a0f1120, abf08576afe3 introduce
 * struct mnt_idmap). Remove when our oldest kernel is 6.3.
 */
static __always_inline struct dentry *setattr_dentry(unsigned long long *ctx)
{
	if (bpf_core_type_exists(struct mnt_idmap)) {
		struct dentry *dentry = (void *)ctx[1];

		barrier_var(dentry);
		return dentry;
	}
	return (void *)ctx[0];
}

static __always_inline struct iattr *setattr_iattr(unsigned long long *ctx)
{
	if (bpf_core_type_exists(struct mnt_idmap)) {
		struct iattr *iattr = (void *)ctx[2];

		barrier_var(iattr);
		return iattr;
	}
	return (void *)ctx[1];
}

/*
 * Whether credentials were made for access(2), which asks with the real user's: of all that are put
 * on for a while, only these are marked so (d7852fbd0f04). A kernel that no longer marks them tells
 * with the Linux capabilities of a subject's user whether something exists.
 */
static __always_inline bool made_for_access(const struct cred *cred)
{
	return bpf_core_field_exists(struct cred, non_rcu) && BPF_CORE_READ(cred, non_rcu);
}

/*
 * Whom an open file signals lies beside it since 6.12 (1934b212615d), if anybody has asked for it:
 * NULL otherwise. Remove when our oldest kernel is 6.12.
 */
struct file___owner_inside {
	struct fown_struct f_owner;
} __attribute__((preserve_access_index));

static __always_inline struct fown_struct *owner_of(struct file *file)
{
	if (bpf_core_field_exists(struct fown_struct, file))
		return BPF_CORE_READ(file, f_owner);
	return (void *)file + bpf_core_field_offset(struct file___owner_inside, f_owner);
}

#endif
