/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Unix sockets: whose a peer is, and whether its path or abstract name is granted. ipc.bpf.c asks
 * when a subject connects or sends, network.bpf.c when it takes a name.
 */
#ifndef CARTOUCHE_UNIX_BPF_H
#define CARTOUCHE_UNIX_BPF_H

#include "rule.bpf.h"
#include "socket.bpf.h"

/* Mounts of one file system that are looked at. */
#define MOUNTS_MAX 1024

static __always_inline int refuse_unix(const struct bearer *bearer)
{
	struct attempt attempt = {
		.domain = DOMAIN_IPC,
		.operation = RIGHT_UNIX,
		.object_kind = OBJECT_NUMBER,
	};

	return refuse(bearer, &attempt) ? -EPERM : 0;
}

static __always_inline bool made_here(const struct bearer *bearer, struct sock *peer)
{
	__u32 *slot = bpf_sk_storage_get(&socket_slots, peer, NULL, 0);

	return slot && *slot == bearer->slot;
}

/* A walk over the mounts of a file system. */
struct mounts {
	__u64 next; /* list_head in the next one's struct mount */
	__u64 end;
	__u64 root; /* of the file system */
	__u64 part; /* of it, what the socket's own mount shows: other parts may lack the socket */
	__u64 namespace; /* the current task's */
	__u64 found;	 /* vfsmount */
};

static long mounts_step(__u64 index, struct mounts *mounts)
{
	__u64 address = mounts->next - bpf_core_field_offset(struct mount, mnt_instance);
	struct mount *mount = (void *)address;
	__u64 root;

	if (mounts->next == mounts->end || !mounts->next)
		return 1;
	root = (__u64)BPF_CORE_READ(mount, mnt.mnt_root);
	if ((__u64)BPF_CORE_READ(mount, mnt_ns) == mounts->namespace &&
	    (root == mounts->root || root == mounts->part)) {
		mounts->found = address + bpf_core_field_offset(struct mount, mnt);
		return 1;
	}
	mounts->next = (__u64)BPF_CORE_READ(mount, mnt_instance.next);
	return 0;
}

/*
 * Through which mount the current task sees a socket. It keeps the one through which it was bound,
 * and a service with a mount namespace of its own binds through one that is nobody else's.
 */
static __always_inline __u64 mount_seen(__u64 mount)
{
	struct super_block *sb = BPF_CORE_READ((struct vfsmount *)mount, mnt_sb);
	struct mounts mounts = {};

	if (own_namespace(mount))
		return mount;
	mounts.end = (__u64)sb + bpf_core_field_offset(struct super_block, s_mounts);
	mounts.next = (__u64)BPF_CORE_READ(sb, s_mounts.next);
	mounts.root = (__u64)BPF_CORE_READ(sb, s_root);
	mounts.part = (__u64)BPF_CORE_READ((struct vfsmount *)mount, mnt_root);
	mounts.namespace = (__u64)current_task()->nsproxy->mnt_ns;
	bpf_loop(MOUNTS_MAX, mounts_step, &mounts, 0);
	/* none: the old one, which is not in the own namespace, and that denies */
	return mounts.found ? mounts.found : mount;
}

/* Writes an abstract name as rules have it, with an @, to the end of the scratch's path. */
static __always_inline int write_abstract(struct scratch *scratch, __u64 name, __u32 length)
{
	__u32 at = WALK_MAX - 2 - length;

	if (length >= sizeof(((struct sockaddr_un *)0)->sun_path))
		return -REASON_UNNAMEABLE;
	at &= WALK_MAX - 1;
	scratch->path[at] = '@';
	at = (at + 1) & (WALK_MAX - 1);
	/* a name with a NUL inside is another one than its beginning, and no rule can hold it */
	if (bpf_probe_read_kernel_str(&scratch->path[at], length + 1, (void *)name) != length + 1)
		return -REASON_UNNAMEABLE;
	return at - 1;
}

/* Holds a subject to ipc:unix by an abstract name, that of a peer or one that it takes. */
__noinline int judge_abstract(const struct bearer *bearer, __u64 name, __u32 length)
{
	struct attempt attempt = {
		.domain = DOMAIN_IPC,
		.operation = RIGHT_UNIX,
	};
	struct scratch *scratch = scratch_of_current();
	struct file_rule *rule;
	int at;

	if (!bearer)
		return -EPERM;
	if (!scratch) {
		attempt.reason = REASON_MEMORY;
		goto refused;
	}
	at = write_abstract(scratch, name, length);
	if (at < 0) {
		attempt.reason = -at;
		goto refused;
	}
	attempt.at = at & (WALK_MAX - 1);
	attempt.object_kind = OBJECT_PATH;
	if (!in_force(bearer))
		goto refused;
	rule = find_rule(bearer, scratch, at);
	if (rule && (rule->near_mask & BIT(RIGHT_UNIX))) {
		count_use(rule, false, BIT(RIGHT_UNIX));
		return 0;
	}
refused:
	return refuse(bearer, &attempt) ? -EPERM : 0;
}

/* Whether a socket may be connected or sent to: one's own, or named by a rule. */
__noinline int judge_peer(const struct bearer *bearer, __u64 peer)
{
	struct unix_sock *socket = (void *)peer;
	struct place place = {
		.wanted = BIT(RIGHT_UNIX),
		.domain = DOMAIN_IPC,
	};
	struct unix_address *address;
	struct location where;

	if (!bearer)
		return -EPERM;
	if (!peer)
		return refuse_unix(bearer);
	where = location_of(&socket->path);
	if (where.dentry) {
		place.dentry = where.dentry;
		place.mount = mount_seen(where.mount);
		return judge(bearer, &place) ? -EPERM : 0;
	}
	address = BPF_CORE_READ(socket, addr);
	if (address)
		return judge_abstract(bearer, (__u64)&address->name[0].sun_path[1],
				      BPF_CORE_READ(address, len) - sizeof(__u16) - 1)
			       ? -EPERM
			       : 0;
	/* a peer without a name: one of a pair that others hold */
	return refuse_unix(bearer);
}

/*
 * An abstract name is first come, first served: a subject would take a service's. A path is an
 * fs:create; without any name the kernel gives one that nobody knows.
 */
__noinline int judge_bound_name(__u64 address, int length)
{
	__u64 path = address + sizeof(__u16);
	struct bearer bearer;
	char first = 0;

	if (!subject(&bearer))
		return 0;
	bpf_probe_read_kernel(&first, sizeof(first), (void *)path);
	if (length <= (int)sizeof(__u16) || first)
		return in_force(&bearer) ? 0 : refuse_unix(&bearer);
	return judge_abstract(&bearer, path + 1, length - sizeof(__u16) - 1) ? -EPERM : 0;
}

#endif
