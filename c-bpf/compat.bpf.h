/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Where our kernels differ. Every stanza says since when, why, and when it can go; the answer comes
 * from the running kernel's BTF, never from its version.
 */
#ifndef CARTOUCHE_COMPAT_BPF_H
#define CARTOUCHE_COMPAT_BPF_H

#include "kernel.bpf.h"

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

#endif
