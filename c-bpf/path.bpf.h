/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Names a file: our own walk from a dentry up to the root of its mount namespace. bpf_d_path is not
 * allowed in the path_* hooks of 6.1 and answers differently for chroots and detached mounts; this
 * one gives the same bytes in every hook and on every kernel. A task's own /proc/PID is written
 * /proc/self, another's is written with a star for its PID.
 */
#ifndef CARTOUCHE_PATH_BPF_H
#define CARTOUCHE_PATH_BPF_H

#include "cartouche.h"
#include "compat.bpf.h"

/* Components and mounts of one path, at most. */
#define WALK_STEPS 512
/* Where the path of the root itself begins. */
#define WALK_ROOT (WALK_MAX - 2)
/* Walks that a concurrent rename may spoil before the operation is refused. */
#define WALK_TRIES 8

enum walk_result {
	WALKING = 0,
	WALK_DONE = 1,
	WALK_TOO_LONG = 2,
	WALK_DISCONNECTED = 3,
};

/* Where a walk stands. In the scratch, not on the stack: the verifier would follow every value. */
struct walk {
	__u64 dentry;
	__u64 mount;	  /* struct mount */
	__u64 root;	  /* mnt_root of that mount */
	__u64 up;	  /* mnt_parent of that mount */
	__u64 mountpoint; /* mnt_mountpoint of that mount */
	__u32 at;	  /* first byte written, from the start of scratch->path */
	__u32 leaf;	  /* bytes of the last component */
	__u32 result;	  /* enum walk_result */
	__u32 pad;
};

/*
 * The path is written backwards and ends at a fixed place; a trie key starts 4 bytes before the
 * path (prefixlen), and bytes beyond the end stay zero for ever, so the key needs no copy.
 */
struct scratch {
	__u64 mount; /* vfsmount that this thread holds write access to, for dentry-only hooks */
	struct walk walk;
	__u8 head[sizeof(__u32)];
	__u8 path[WALK_MAX];
	__u8 tail[RULE_MAX];
};

/* 4 KiB, made at a subject's first path check; per thread, so that preemption cannot mix two walks.
 */
struct {
	__uint(type, BPF_MAP_TYPE_TASK_STORAGE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__type(key, int);
	__type(value, struct scratch);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} scratches SEC(".maps");

/* Of the kernel's rename_lock; see symbol.bpf.c. */
const volatile __u64 rename_lock_address = 0;

/* d_parent and d_name as they lie in struct dentry, read at once where they are neighbours. */
struct dentry_name {
	__u64 parent;
	__u32 hash;
	__u32 length;
	__u64 name;
};

static __always_inline int read_name(__u64 address, struct dentry_name *name)
{
	struct dentry *dentry = (void *)address;

	if (can_cast()) {
		dentry = CAST(dentry, address);
		name->parent = (__u64)dentry->d_parent;
		name->length = dentry->d_name.hash_len >> 32;
		name->name = (__u64)dentry->d_name.name;
		return 0;
	}
	if (bpf_core_field_offset(struct dentry, d_name) ==
	    bpf_core_field_offset(struct dentry, d_parent) + sizeof(__u64))
		return bpf_probe_read_kernel(name, sizeof(*name), &dentry->d_parent);
	if (bpf_probe_read_kernel(&name->hash, 16, &dentry->d_name))
		return -1;
	return bpf_probe_read_kernel(&name->parent, 8, &dentry->d_parent);
}

/* The walk goes on in this mount: its root, and where that hangs; read at once likewise. */
static __always_inline void enter_mount(struct walk *walk, __u64 address)
{
	struct {
		__u64 parent;
		__u64 mountpoint;
		__u64 root;
	} fields = {};
	struct mount *mount = (void *)address;

	if (!can_cast() &&
	    bpf_core_field_offset(struct mount, mnt_mountpoint) ==
		    bpf_core_field_offset(struct mount, mnt_parent) + sizeof(__u64) &&
	    bpf_core_field_offset(struct mount, mnt) ==
		    bpf_core_field_offset(struct mount, mnt_parent) + 2 * sizeof(__u64) &&
	    bpf_core_field_offset(struct vfsmount, mnt_root) == 0) {
		bpf_probe_read_kernel(&fields, sizeof(fields), &mount->mnt_parent);
	} else {
		fields.parent = (__u64)READ(mount, address, mnt_parent);
		fields.mountpoint = (__u64)READ(mount, address, mnt_mountpoint);
		fields.root = (__u64)READ(mount, address, mnt.mnt_root);
	}
	walk->mount = address;
	walk->up = fields.parent;
	walk->mountpoint = fields.mountpoint;
	walk->root = fields.root;
}

/* The struct pid behind a directory directly below a procfs root, 0 elsewhere. */
static __always_inline __u64 proc_pid(__u64 address, __u64 parent)
{
	struct dentry *dentry = (void *)address;
	struct inode *inode;
	struct pid *pid;
	__u64 up;

	if (BPF_CORE_READ(dentry, d_sb, s_magic) != PROC_SUPER_MAGIC)
		return 0;
	up = (__u64)BPF_CORE_READ((struct dentry *)parent, d_parent);
	if (up != parent)
		return 0;
	inode = BPF_CORE_READ(dentry, d_inode);
	if (!inode)
		return 0;
	pid = BPF_CORE_READ(
		(struct proc_inode *)((__u64)inode -
				      bpf_core_field_offset(struct proc_inode, vfs_inode)),
		pid);
	return (__u64)pid;
}

/* The struct pid of the current process. */
static __always_inline __u64 own_pid(void)
{
	return (__u64)current_task()->signal->pids[PIDTYPE_TGID];
}

/* bpf_loop takes a pointer to the stack only. */
struct walk_cursor {
	struct scratch *scratch;
};

/*
 * Writes a name to path[at]. What stands behind it was written before and stays. A short name lies
 * in the dentry itself and comes by words; false if the memory cannot be read.
 */
static __always_inline bool write_name(struct scratch *scratch, __u32 at, __u64 address,
				       const struct dentry_name *name)
{
	__u32 length = name->length & 255;
	__u32 word;

	if (can_cast() && bpf_core_field_exists(struct dentry, d_iname) &&
	    length < DNAME_INLINE_MIN &&
	    name->name == address + bpf_core_field_offset(struct dentry, d_iname)) {
		const __u64 *words = (void *)CAST(dentry, address)->d_iname;

		/* else clang knows that it is text, and loads byte by byte */
		barrier_var(words);
#pragma unroll
		for (word = 0; word < DNAME_INLINE_MIN / 8; word++) {
			__u64 *to = (__u64 *)&scratch->path[at + 8 * word];
			__u64 text = words[word];
			__u32 left = length - 8 * word;

			if (left < 8) {
				__u64 ours = (1ULL << (8 * left)) - 1;

				*to = (*to & ~ours) | (text & ours);
				break;
			}
			*to = text;
		}
		return true;
	}
	/* path[] is followed by tail[], so at + 255 stays inside the value */
	return !bpf_probe_read_kernel(&scratch->path[at], length, (void *)name->name);
}

static long walk_step(__u64 index, struct walk_cursor *cursor)
{
	struct scratch *scratch = cursor->scratch;
	struct walk *walk = &scratch->walk;
	__u64 address = walk->dentry;
	struct dentry_name name = {};
	__u32 length, at;
	__u64 pid;

	if (address == walk->root) {
		if (walk->up == walk->mount || !walk->up) {
			walk->result = WALK_DONE;
			return 1;
		}
		walk->dentry = walk->mountpoint;
		enter_mount(walk, walk->up);
		return 0;
	}
	if (read_name(address, &name) || name.parent == address) {
		walk->result = WALK_DISCONNECTED;
		return 1;
	}
	length = name.length;
	at = walk->at;
	if (length == 0 || length > 255 || at > WALK_MAX || at < length + 1) {
		walk->result = length > 255 || at < length + 1 ? WALK_TOO_LONG : WALK_DISCONNECTED;
		return 1;
	}
	at -= length;
	at &= WALK_MAX - 1;
	if (!write_name(scratch, at, address, &name)) {
		walk->result = WALK_DISCONNECTED;
		return 1;
	}
	/* the name of a PID directory begins with a digit: everything else skips the look */
	if (scratch->path[at] >= '0' && scratch->path[at] <= '9' && name.parent &&
	    (pid = proc_pid(address, name.parent))) {
		at += length;
		length = pid == own_pid() ? 4 : 1;
		if (at < length + 1) {
			walk->result = WALK_TOO_LONG;
			return 1;
		}
		at -= length;
		at &= WALK_MAX - 1;
		scratch->path[at] = length == 1 ? '*' : 's';
		if (length == 4) {
			scratch->path[at + 1] = 'e';
			scratch->path[at + 2] = 'l';
			scratch->path[at + 3] = 'f';
		}
	}
	if (!walk->leaf)
		walk->leaf = length;
	at -= 1;
	at &= WALK_MAX - 1;
	scratch->path[at] = '/';
	walk->at = at;
	walk->dentry = name.parent;
	return 0;
}

static __always_inline __u32 rename_sequence(void)
{
	__u32 sequence;

	if (can_cast())
		return *(volatile __u32 *)&CAST(seqcount, rename_lock_address)->sequence;
	/* odd: as if a rename were under way */
	if (bpf_probe_read_kernel(&sequence, sizeof(sequence), (const void *)rename_lock_address))
		return 1;
	return sequence;
}

/* Not static, here and below: the verifier checks a global function once, not anew at every call.
 */
__noinline int walk_once(struct scratch *scratch, __u64 dentry, __u64 mount)
{
	struct walk_cursor cursor = {.scratch = scratch};
	struct walk *walk;

	if (!scratch)
		return WALK_DISCONNECTED;
	walk = &scratch->walk;
	walk->dentry = dentry;
	enter_mount(walk, mount);
	walk->at = WALK_MAX - 1;
	walk->leaf = 0;
	walk->result = WALKING;
	bpf_loop(WALK_STEPS, walk_step, &cursor, 0);
	return walk->result;
}

/*
 * Writes the path of (dentry, vfsmount) into scratch->path, from `at` to the end, and returns `at`;
 * else a negative enum reason. The leaf's length comes back for the near/deep decision of a rule.
 */
__noinline int walk_path(struct scratch *scratch, __u64 dentry, __u64 vfsmount, __u32 *leaf)
{
	__u64 mount = vfsmount - bpf_core_field_offset(struct mount, mnt);
	__u32 sequence, try, at;
	int result;

	if (!scratch || !leaf)
		return -REASON_MEMORY;
	for (try = 0; try < WALK_TRIES; try++) {
		sequence = rename_sequence();
		result = walk_once(scratch, dentry, mount);
		if (!(sequence & 1) && rename_sequence() == sequence)
			goto stable;
	}
	return -REASON_RACE;

stable:
	if (result != WALK_DONE)
		return -REASON_UNNAMEABLE;
	at = scratch->walk.at;
	*leaf = scratch->walk.leaf;
	if (at >= WALK_MAX - 1) {
		/* the root itself: no component was written */
		at = WALK_ROOT;
		scratch->path[at] = '/';
		*leaf = 0;
	}
	return at;
}

/* Whether the mount hangs in the mount namespace of the current task. */
static __always_inline struct mnt_namespace *namespace_of(__u64 vfsmount)
{
	__u64 mount = vfsmount - bpf_core_field_offset(struct mount, mnt);

	return READ(mount, mount, mnt_ns);
}

/*
 * Kernel-internal mounts (pipes, sockets, memfds, overlay's layers): MNT_NS_INTERNAL, fs/mount.h.
 * That of memfds with huge pages is in no namespace at all, as is a mount that is gone; no user can
 * mount this file system's kernel instance.
 */
static __always_inline bool internal_mount(__u64 vfsmount)
{
	__u64 namespace = (__u64)namespace_of(vfsmount);
	struct super_block *sb;

	if (namespace)
		return namespace == (__u64)-EINVAL;
	sb = BPF_CORE_READ((struct vfsmount *)vfsmount, mnt_sb);
	return BPF_CORE_READ(sb, s_magic) == HUGETLBFS_MAGIC &&
	       (BPF_CORE_READ(sb, s_flags) & SB_KERNMOUNT);
}

static __always_inline bool own_namespace(__u64 vfsmount)
{
	return namespace_of(vfsmount) == current_task()->nsproxy->mnt_ns;
}

/*
 * A file that no name leads to any more, or none yet (O_TMPFILE): it is in no hash list. Neither is
 * the root of a file system, nor a name without an inode that open is looking up to create the
 * file.
 */
static __always_inline bool deleted(__u64 dentry)
{
	return !READ(dentry, dentry, d_hash.pprev) && READ(dentry, dentry, d_inode) &&
	       (__u64)READ(dentry, dentry, d_parent) != dentry;
}

static __always_inline struct scratch *scratch_of_current(void)
{
	return bpf_task_storage_get(&scratches, bpf_get_current_task_btf(), NULL,
				    BPF_LOCAL_STORAGE_GET_F_CREATE);
}

#endif
