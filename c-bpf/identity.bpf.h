/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Which file is which program: admitted executables by inode, claimed paths by name. The content
 * was hashed at admission; it stays true because nobody can write to an inode while it stands here.
 */
#ifndef CARTOUCHE_IDENTITY_BPF_H
#define CARTOUCHE_IDENTITY_BPF_H

#include "cartouche.h"
#include "kernel.bpf.h"

struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SUBJECTS_MAX);
	__type(key, struct subject_key);
	__type(value, struct subject);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} subjects SEC(".maps");

/* The full path, for the few files that pass the filter below. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SUBJECTS_MAX);
	__type(key, struct claim_key);
	__type(value, struct claim);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} claims SEC(".maps");

/* Last components of claimed paths: spares every other exec of this machine the walk. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SUBJECTS_MAX);
	__type(key, struct claim_name_key);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} claim_names SEC(".maps");

static __always_inline void key_of(__u64 address, struct subject_key *key)
{
	struct inode *inode = (void *)address;

	key->ino = BPF_CORE_READ(inode, i_ino);
	key->dev = BPF_CORE_READ(inode, i_sb, s_dev);
	key->generation = BPF_CORE_READ(inode, i_generation);
}

/* Whose program a file is; one that is only being examined, or pinned as code, is nobody's. */
static __always_inline struct subject *subject_by_key(const struct subject_key *key)
{
	struct subject *subject = bpf_map_lookup_elem(&subjects, key);

	return subject && !(subject->flags & (SUBJECT_EXAMINED | SUBJECT_CODE)) ? subject : NULL;
}

static __always_inline struct subject *subject_of(__u64 inode)
{
	struct subject_key key = {};

	key_of(inode, &key);
	return subject_by_key(&key);
}

/* What runs already may map itself, under whatever name it was started. */
static __always_inline bool own_executable(__u64 file)
{
	struct file *exe = BPF_CORE_READ(bpf_get_current_task_btf(), mm, exe_file);

	return exe && BPF_CORE_READ(exe, f_inode) == BPF_CORE_READ((struct file *)file, f_inode);
}

/*
 * An admitted executable, or pinned code, cannot be written by anybody: its hash is the identity.
 * For every task, but only on the way to a writable descriptor or a new size.
 */
static __always_inline bool write_blocked(__u64 inode)
{
	struct subject_key key = {};

	key_of(inode, &key);
	return bpf_map_lookup_elem(&subjects, &key) != NULL;
}

#endif
