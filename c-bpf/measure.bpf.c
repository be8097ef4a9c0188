// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain exec: compares the content of executables with verify = "measured" at each exec. Rules are
 * keyed by file and hash; without a rule it does not run. Reading a file takes sleep, so this is
 * the one hook with a second program: attached on demand, only while an artifact has such an
 * executable, and without path rules, whose tries are not safe in a program that sleeps. The exec
 * is decided besides, in exec.bpf.c.
 */
#include "claim.bpf.h"

/* include/uapi/linux/hash_info.h; what `ima_hash=` may choose instead is no content that we know.
 */
#define HASH_ALGO_SHA256 4

/* Which contents are admitted. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SUBJECTS_MAX);
	__type(key, struct measured_key);
	__type(value, __u32);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} measured SEC(".maps");

/*
 * A program that may sleep must not do so while it makes a storage: on 6.1 every other task on that
 * CPU would find its own unreadable meanwhile, which denies. The open of execve has made the
 * scratch of the report.
 */
static __always_inline bool has_scratch(void)
{
	return bpf_task_storage_get(&scratches, bpf_get_current_task_btf(), NULL, 0) != NULL;
}

/* Refused, and counted as a refusal without a record. */
static __always_inline void count_unreported(__u32 slot)
{
	struct slot_counts *count = bpf_map_lookup_elem(&counts, &slot);

	if (!count)
		return;
	__sync_fetch_and_add(&count->denied[DOMAIN_EXEC], 1);
	__sync_fetch_and_add(&count->lost, 1);
}

/* Once for the file and once for each interpreter, as it is known by then who runs. */
SEC("?lsm.s/bprm_check_security")
int BPF_PROG(measure, struct linux_binprm *bprm)
{
	struct measured_key key = {};
	struct subject *subject;
	struct location where;
	long algorithm;
	__u32 slot;

	key_of((__u64)BPF_CORE_READ(bprm, file, f_inode), &key.file);
	subject = subject_by_key(&key.file);
	if (!subject || !(subject->flags & SUBJECT_MEASURED))
		return 0;
	slot = subject->slot;
	algorithm = bpf_ima_file_hash(bprm->file, key.sha256, sizeof(key.sha256));
	if (algorithm == HASH_ALGO_SHA256 && bpf_map_lookup_elem(&measured, &key))
		return 0;
	if (!has_scratch()) {
		count_unreported(slot);
		return -EPERM;
	}
	where = location_of(&BPF_CORE_READ(bprm, file)->f_path);
	refuse_exec(slot, OP_CLAIMED, REASON_CONTENT, where.dentry, where.mount);
	return -EPERM;
}
