/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * Asks a plan about a path: one walk, one longest-prefix lookup, one mask. Without a rule: denied.
 */
#ifndef CARTOUCHE_RULE_BPF_H
#define CARTOUCHE_RULE_BPF_H

#include "report.bpf.h"

/* Plan -> trie of paths. A plan is filled before its number enters `slots`, and never changed
 * after. */
struct short_trie {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(struct short_key));
	__uint(value_size, sizeof(struct file_rule));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, PLANS_MAX);
	__type(key, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__array(values, struct short_trie);
} file_rules SEC(".maps");

/* The same for rules that are longer; only of plans with PLAN_LONG_RULES. */
struct long_trie {
	__uint(type, BPF_MAP_TYPE_LPM_TRIE);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, 1);
	__uint(key_size, sizeof(struct long_key));
	__uint(value_size, sizeof(struct file_rule));
};

struct {
	__uint(type, BPF_MAP_TYPE_ARRAY_OF_MAPS);
	__uint(max_entries, PLANS_MAX);
	__type(key, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
	__array(values, struct long_trie);
} long_file_rules SEC(".maps");

#define BIT(n) (1u << (n))

/* Flags of a place. */
#define PLACE_NAMELESS_FILE 1u /* O_TMPFILE: has a directory, but no name yet */
#define PLACE_DEVICE 2u	       /* only exact rules count, or one of all terminals */

/* A file to be judged, and the rights that are wanted of it. */
struct place {
	__u64 dentry;
	__u64 mount; /* vfsmount */
	__u8 wanted; /* bits of enum right */
	__u8 domain;
	__u8 flags; /* PLACE_* */
	__u8 pad[3];
	__u16 granted; /* comes back: what near or deep has for RIGHT_EXEC, if that was wanted */
};

static __always_inline bool is_device(__u16 mode)
{
	return (mode & S_IFMT) == S_IFCHR || (mode & S_IFMT) == S_IFBLK;
}

/* include/linux/dcache.h and fs.h */
#define DCACHE_OP_COMPARE 0x2u
#define S_CASEFOLD (1u << 15)

/*
 * Whether a file is found under other spellings of its name: a path that was carved out would be
 * reached by another one. Where only some directories are of that kind, theirs is the flag.
 */
static __always_inline bool has_spellings(__u64 address)
{
	struct dentry *dentry = (void *)address;
	unsigned long magic;

	if (!(BPF_CORE_READ(dentry, d_flags) & DCACHE_OP_COMPARE))
		return false;
	magic = BPF_CORE_READ(dentry, d_sb, s_magic);
	if (magic == PROC_SUPER_MAGIC)
		return false;
	if (magic != EXT4_SUPER_MAGIC && magic != F2FS_SUPER_MAGIC && magic != TMPFS_MAGIC)
		return true;
	return BPF_CORE_READ(dentry, d_parent, d_inode, i_flags) & S_CASEFOLD;
}

/* The longest match: whatever the second trie has is longer than all that the first one has. */
static __always_inline struct file_rule *find_rule(const struct bearer *bearer,
						   struct scratch *scratch, __u32 at)
{
	__u32 plan = bearer->plan;
	struct file_rule *rule;
	struct long_key *key;
	void *trie;

	at &= WALK_MAX - 1;
	/* 4 bytes before the path: in head[] or in path[] itself */
	key = (void *)&scratch->path[at] - sizeof(__u32);
	if (bearer->flags & PLAN_LONG_RULES && WALK_MAX - at > RULE_SHORT) {
		trie = bpf_map_lookup_elem(&long_file_rules, &plan);
		if (!trie)
			return NULL;
		key->prefixlen = RULE_MAX * 8;
		rule = bpf_map_lookup_elem(trie, key);
		if (rule)
			return rule;
	}
	trie = bpf_map_lookup_elem(&file_rules, &plan);
	if (!trie)
		return NULL;
	key->prefixlen = RULE_SHORT * 8;
	return bpf_map_lookup_elem(trie, key);
}

/* Whether something deeper than the last component follows the rule's own bytes. */
static __always_inline bool is_deep(const struct file_rule *rule, __u32 at, __u32 leaf)
{
	__u32 length = WALK_MAX - 1 - at;

	/* offset of the last slash, against the bytes that the rule covers */
	return length - leaf - 1 >= (__u32)rule->length + 1;
}

static __always_inline void count_use(struct file_rule *rule, bool deep, __u32 wanted)
{
	__u32 right;

#pragma unroll
	for (right = 0; right < RIGHTS; right++) {
		if (!(wanted & BIT(right)))
			continue;
		if (deep)
			__sync_fetch_and_add(&rule->deep_used[right], 1);
		else
			__sync_fetch_and_add(&rule->near_used[right], 1);
	}
}

static __always_inline __u32 lowest_right(__u32 mask)
{
	__u32 right;

#pragma unroll
	for (right = 0; right < RIGHTS - 1; right++)
		if (mask & BIT(right))
			break;
	return right;
}

/* What one act asks for, at most: to make a file, say, over another, that is set-id. */
#define RIGHTS_AT_ONCE 3

/* 0: allowed (or audit mode); else -EPERM, told and counted. */
__noinline int judge(const struct bearer *bearer, struct place *place)
{
	struct attempt attempt = {};
	struct file_rule *rule;
	struct scratch *scratch;
	__u32 leaf = 0, missing, mask, told = 0;
	bool deep;
	int at;

	if (!bearer || !place)
		return -EPERM;
	place->granted = 0;
	attempt.domain = place->domain;
	missing = place->wanted;
	scratch = scratch_of_current();
	if (!scratch) {
		attempt.reason = REASON_MEMORY;
		goto refused;
	}
	if (bearer->flags & PLAN_EXCEPT && has_spellings(place->dentry)) {
		attempt.reason = REASON_UNNAMEABLE;
		goto named;
	}
	if (!own_namespace(place->mount) ||
	    (deleted(place->dentry) && !(place->flags & PLACE_NAMELESS_FILE))) {
		attempt.reason = REASON_UNNAMEABLE;
		goto named;
	}
	at = walk_path(scratch, place->dentry, place->mount, &leaf);
	if (at < 0) {
		attempt.reason = -at;
		goto refused;
	}
	at &= WALK_MAX - 1;
	attempt.at = at;
	attempt.object_kind = OBJECT_PATH;
	if (!in_force(bearer))
		goto refused;
	rule = find_rule(bearer, scratch, at);
	if (!rule)
		goto refused;
	deep = is_deep(rule, at, leaf);
	mask = deep ? rule->deep_mask : rule->near_mask;
	if (place->flags & PLACE_DEVICE)
		mask &= deep ? 0 : rule->exact_mask;
	missing = place->wanted & ~mask;
	if (missing)
		goto refused;
	count_use(rule, deep, place->wanted);
	if (place->wanted & BIT(RIGHT_EXEC))
		place->granted = deep ? rule->deep[RIGHT_EXEC] : rule->near[RIGHT_EXEC];
	return 0;

named:
	/* no rule can match it, but the audit line should still say what it was */
	name_object(&attempt, place->dentry, place->mount);
refused:
	/* the first one that is missing denies; audit mode tells of all */
	do {
		attempt.operation = lowest_right(missing);
		if (refuse(bearer, &attempt))
			return -EPERM;
		missing &= missing - 1;
	} while (missing && ++told < RIGHTS_AT_ONCE);
	return 0;
}

#endif
