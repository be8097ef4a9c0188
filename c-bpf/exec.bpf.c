// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain exec: who is who, and which code runs. Decides each execve by the identity of the file
 * (inode, claimed path), labels and hands labels on, holds subjects to process:exec and code:*.
 * Rules are keyed by path. Without a rule a subject runs and maps nothing; a task outside may run
 * everything but what is claimed and not admitted.
 */
#include "identity.bpf.h"
#include "rule.bpf.h"

/* Read by no program: a daemon that was killed finds here which slots it had given to whom. */
struct {
	__uint(type, BPF_MAP_TYPE_HASH);
	__uint(map_flags, BPF_F_NO_PREALLOC);
	__uint(max_entries, SLOTS_MAX);
	__type(key, __u32);
	__type(value, struct holder);
	__uint(pinning, LIBBPF_PIN_BY_NAME);
} holders SEC(".maps");

/* Refuses an exec on behalf of a slot, subject or not; audit mode does not soften it. */
__noinline int refuse_exec(__u32 slot, __u64 address, __u32 operation, __u32 reason)
{
	struct linux_binprm *bprm = (void *)address;
	struct attempt attempt = {
		.domain = DOMAIN_EXEC,
		.always = 1,
	};
	struct bearer bearer = {.slot = slot};
	struct location where;

	attempt.operation = operation;
	attempt.reason = reason;
	read_slot(&bearer);
	if (!in_force(&bearer) && reason == REASON_CONTENT)
		attempt.reason = REASON_REFUSED;
	where = location_of(&BPF_CORE_READ(bprm, file)->f_path);
	name_object(&attempt, where.dentry, where.mount);
	refuse(&bearer, &attempt);
	return -EPERM;
}

/* The slot that claims this file's name and directory, 0 if none does. */
__noinline __u32 claimant(__u64 dentry, __u64 mount, __u32 dev)
{
	struct claim_name_key name = {.dev = dev};
	struct scratch *scratch;
	struct claim_key *key;
	struct claim *claim;
	__u32 leaf = 0, *namesake;
	int at;

	bpf_probe_read_kernel_str(name.name, sizeof(name.name),
				  BPF_CORE_READ((struct dentry *)dentry, d_name.name));
	namesake = bpf_map_lookup_elem(&claim_names, &name);
	if (!namesake)
		return 0;
	/* a claimed name on the claimed device, whose path cannot be told: refused */
	scratch = scratch_of_current();
	if (!scratch)
		return *namesake;
	at = walk_path(scratch, dentry, mount, &leaf);
	if (at < 0)
		return *namesake;
	at &= WALK_MAX - 1;
	key = (void *)&scratch->path[at] - sizeof(__u32);
	key->dev = dev;
	claim = bpf_map_lookup_elem(&claims, key);
	return claim ? claim->slot : 0;
}

/* A script is what its admitted path says: the interpreter opens that name again. */
static __always_inline bool script_by_claimed_name(const char *name, __u32 dev, __u32 slot)
{
	struct scratch *scratch = scratch_of_current();
	struct claim_key *key;
	struct claim *claim;

	if (!scratch)
		return false;
	key = (void *)scratch->tail - RULE_MAX - sizeof(__u32);
	__builtin_memset(key, 0, sizeof(*key));
	key->dev = dev;
	bpf_probe_read_kernel_str(key->path, sizeof(key->path), name);
	claim = bpf_map_lookup_elem(&claims, key);
	scratch->path[WALK_MAX - 1] = 0;
	return claim && claim->slot == slot;
}

/* Remembers in the thread's own storage where this exec leads, and what the process is now. */
static __always_inline int set_pending(__u32 current_slot, __u32 pending,
				       const struct subject_key *key)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 address = (__u64)task;
	struct label *label;
	__u32 *mirrored;

	label = bpf_task_storage_get(&labels, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!label)
		return -ENOMEM;
	mirrored = bpf_map_lookup_elem(&mirror, &address);
	if (!mirrored && bpf_map_update_elem(&mirror, &address, &current_slot, BPF_ANY))
		return -ENOMEM;
	label->slot = current_slot;
	label->key = *key;
	label->pending = pending;
	return 0;
}

/* What an exec that failed left behind must not label another program. */
static __always_inline void forget_pending(void)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct label *label;

	if (!task->bpf_storage)
		return;
	label = bpf_task_storage_get(&labels, task, NULL, 0);
	if (label)
		label->pending = 0;
}

/* Makes a program of nobody's a subject, unless another task has a hand in it. */
static __always_inline int change_label(struct linux_binprm *bprm, __u32 slot,
					const struct subject_key *key)
{
	if (bprm->unsafe & LSM_UNSAFE_SHARE)
		return refuse_exec(slot, address_of(bprm), OP_LABEL, REASON_UNSAFE);
	if (bprm->unsafe & LSM_UNSAFE_PTRACE) {
		struct task_struct *tracer = bpf_get_current_task_btf()->parent;
		struct bearer other;

		if (bearer_of(tracer->group_leader, &other))
			return refuse_exec(slot, address_of(bprm), OP_LABEL, REASON_UNSAFE);
	}
	if (set_pending(0, slot, key))
		return refuse_exec(slot, address_of(bprm), OP_LABEL, REASON_MEMORY);
	/* LD_PRELOAD and friends of the parent do not cross a change of label */
	bpf_bprm_opts_set(bprm, BPF_F_BPRM_SECUREEXEC);
	return 0;
}

SEC("lsm/bprm_creds_for_exec")
int BPF_PROG(bprm_creds_for_exec, struct linux_binprm *bprm)
{
	struct subject_key key = {}, none = {};
	struct bearer bearer = {}, target = {};
	struct subject *entry;
	struct location where;
	__u64 inode;
	__u32 slot;
	bool labelled;

	where = location_of(&BPF_CORE_READ(bprm, file)->f_path);
	inode = (__u64)BPF_CORE_READ(bprm, file, f_inode);
	labelled = subject(&bearer);
	forget_pending();
	key_of(inode, &key);
	entry = subject_by_key(&key);
	if (!entry) {
		slot = claimant(where.dentry, where.mount, key.dev);
		if (slot)
			return refuse_exec(slot, address_of(bprm), OP_CLAIMED, REASON_CONTENT);
	} else {
		target.slot = entry->slot;
		read_slot(&target);
		if (!in_force(&target))
			return refuse_exec(target.slot, address_of(bprm), OP_CLAIMED,
					   REASON_REFUSED);
		if ((entry->flags & SUBJECT_SCRIPT) &&
		    !script_by_claimed_name(bprm->filename, key.dev, target.slot))
			return refuse_exec(target.slot, address_of(bprm), OP_CLAIMED,
					   REASON_SCRIPT_PATH);
	}
	if (labelled) {
		struct place place = {
			.dentry = where.dentry,
			.mount = where.mount,
			.wanted = BIT(RIGHT_EXEC),
			.domain = DOMAIN_EXEC,
		};

		/* memfd and the like: no path; running one is making code */
		if (internal_mount(where.mount) && in_force(&bearer) &&
		    (bearer.flags & PLAN_CODE_GENERATE))
			;
		else if (judge(&bearer, &place))
			return -EPERM;
		/* `inherit`: the child keeps this label, whatever the file is */
		if (set_pending(bearer.slot, bearer.slot, &none))
			return -EPERM;
		return 0;
	}
	if (!entry)
		return 0;
	return change_label(bprm, target.slot, &key) ? -EPERM : 0;
}

/*
 * Once for the file and once for each interpreter. The file itself is decided above; an interpreter
 * is one more program that runs, and may be a subject where the script is none.
 */
SEC("lsm/bprm_check_security")
int BPF_PROG(bprm_check_security, struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct bearer bearer = {}, target = {};
	struct subject_key key = {};
	struct label *own = NULL;
	struct subject *entry;
	struct location where;
	__u32 slot;

	/* `interp` still is `filename` until a #! line (or binfmt_misc) has named another one */
	if (bprm->interp == bprm->filename)
		return 0;
	where = location_of(&BPF_CORE_READ(bprm, file)->f_path);
	key_of((__u64)BPF_CORE_READ(bprm, file, f_inode), &key);
	entry = subject_by_key(&key);
	if (!entry) {
		slot = claimant(where.dentry, where.mount, key.dev);
		if (slot)
			return refuse_exec(slot, address_of(bprm), OP_CLAIMED, REASON_CONTENT);
	} else {
		target.slot = entry->slot;
		read_slot(&target);
		if (!in_force(&target))
			return refuse_exec(target.slot, address_of(bprm), OP_CLAIMED,
					   REASON_REFUSED);
	}
	if (task->bpf_storage)
		own = bpf_task_storage_get(&labels, task, NULL, 0);
	if (own && own->pending) {
		struct place place = {
			.dentry = where.dentry,
			.mount = where.mount,
			.wanted = BIT(RIGHT_EXEC),
			.domain = DOMAIN_EXEC,
		};

		/* an admitted script says itself what runs it: part of what was admitted */
		if (own->key.ino)
			return 0;
		bearer.slot = own->pending;
		read_slot(&bearer);
		return judge(&bearer, &place) ? -EPERM : 0;
	}
	/* a subject in execve has a pending label, or something is wrong */
	if (subject(&bearer))
		return refuse_exec(bearer.slot, address_of(bprm), OP_LABEL, REASON_MEMORY);
	if (!entry)
		return 0;
	if ((entry->flags & SUBJECT_SCRIPT) &&
	    !script_by_claimed_name(bprm->interp, key.dev, target.slot))
		return refuse_exec(target.slot, address_of(bprm), OP_CLAIMED, REASON_SCRIPT_PATH);
	return change_label(bprm, target.slot, &key) ? -EPERM : 0;
}

/*
 * An exec that was decided before its file became a subject, and comes through after the adoption
 * has looked at the old image: it is bound here, or does not start.
 */
static __always_inline int label_late(struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 address = address_of(task);
	struct subject *entry;
	struct label *label;
	__u32 slot;

	entry = subject_of((__u64)BPF_CORE_READ(bprm, file, f_inode));
	if (!entry)
		return 0;
	slot = entry->slot;
	label = bpf_task_storage_get(&labels, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!label || bpf_map_update_elem(&mirror, &address, &slot, BPF_ANY)) {
		bpf_send_signal(SIGKILL);
		return 0;
	}
	label->pending = 0;
	label->slot = slot;
	return 0;
}

/* After de_thread: this thread is the leader now, and no code of the new image has run. */
SEC("lsm/bprm_committing_creds")
int BPF_PROG(bprm_committing_creds, struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	__u64 address = (__u64)task;
	struct subject *entry;
	struct subject_key key;
	struct label *label;
	__u32 slot, *mirrored;

	if (!task->bpf_storage)
		return label_late(bprm);
	label = bpf_task_storage_get(&labels, task, NULL, 0);
	mirrored = bpf_map_lookup_elem(&mirror, &address);
	if (!label) {
		/* decided, and now unreadable (6.1): it must not start as if it were outside */
		if (mirrored)
			bpf_send_signal(SIGKILL);
		else
			label_late(bprm);
		return 0;
	}
	slot = label->pending;
	if (!slot) {
		if (!label->slot)
			label_late(bprm);
		return 0;
	}
	key = label->key;
	if (key.ino) {
		/* the artifact may have changed hands between the decision and now */
		entry = subject_by_key(&key);
		if (entry)
			slot = entry->slot;
	}
	label->slot = slot;
	label->pending = 0;
	if (bpf_map_update_elem(&mirror, &address, &slot, BPF_ANY))
		bpf_send_signal(SIGKILL);
	return 0;
}

/* fork, vfork, clone3, io_uring workers; threads share the leader's label. Never the pending one.
 */
SEC("lsm/task_alloc")
int BPF_PROG(task_alloc, struct task_struct *task, unsigned long clone_flags)
{
	struct attempt attempt = {
		.domain = DOMAIN_EXEC,
		.operation = OP_FORK,
		.reason = REASON_MEMORY,
		.always = 1,
	};
	__u64 address = (__u64)task;
	struct bearer bearer;
	struct label *label;

	if (clone_flags & CLONE_THREAD)
		return 0;
	if (!subject(&bearer))
		return 0;
	label = bpf_task_storage_get(&labels, task, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!label)
		goto refused;
	label->slot = bearer.slot;
	label->pending = 0;
	if (bpf_map_update_elem(&mirror, &address, &bearer.slot, BPF_ANY))
		goto refused;
	return 0;
refused:
	refuse(&bearer, &attempt);
	return -EPERM;
}

/* The only place where a mirror entry goes: an address may be another task's afterwards. */
SEC("lsm/task_free")
int BPF_PROG(task_free, struct task_struct *task)
{
	__u64 address = (__u64)task;

	if (task->bpf_storage)
		bpf_map_delete_elem(&mirror, &address);
	return 0;
}

/* What runs already may map itself, under whatever name it was started. */
static __always_inline bool own_executable(__u64 file)
{
	struct file *exe = BPF_CORE_READ(bpf_get_current_task_btf(), mm, exe_file);

	return exe && BPF_CORE_READ(exe, f_inode) == BPF_CORE_READ((struct file *)file, f_inode);
}

static __always_inline int judge_code(const struct bearer *bearer, __u64 file, bool generates)
{
	struct attempt attempt = {
		.domain = DOMAIN_EXEC,
		.operation = OP_CODE_GENERATE,
	};
	struct place place = {
		.wanted = BIT(RIGHT_LOAD),
		.domain = DOMAIN_EXEC,
	};

	if (file) {
		struct location where = location_of(&((struct file *)file)->f_path);

		place.dentry = where.dentry;
		place.mount = where.mount;
		if (internal_mount(place.mount))
			generates = true; /* memfd: code without a name */
		else if (in_force(bearer) && own_executable(file))
			;
		else if (judge(bearer, &place))
			return -EPERM;
	}
	if (!generates)
		return 0;
	if (in_force(bearer) && (bearer->flags & PLAN_CODE_GENERATE))
		return 0;
	if (file)
		name_object(&attempt, place.dentry, place.mount);
	return refuse(bearer, &attempt) ? -EPERM : 0;
}

/* READ_IMPLIES_EXEC gives brk and stack executable pages that no hook sees: nothing maps with it.
 */
static __always_inline bool implies_exec(void)
{
	return bpf_get_current_task_btf()->personality & READ_IMPLIES_EXEC;
}

/*
 * Whether execve maps on behalf of the new image: also what it maps only to be read comes from a
 * file that no open has judged, the dynamic linker that the program names.
 */
static __always_inline bool starting(void)
{
	return BPF_CORE_READ_BITFIELD(bpf_get_current_task_btf(), in_execve);
}

SEC("lsm/mmap_file")
int BPF_PROG(mmap_file, struct file *file, unsigned long reqprot, unsigned long prot,
	     unsigned long flags)
{
	struct bearer bearer;
	__u64 address = 0;
	bool generates;

	if (!subject(&bearer))
		return 0;
	/* 6.12 takes `file` for never NULL and drops a plain test; anonymous mappings have none */
	bpf_probe_read_kernel(&address, sizeof(address), &ctx[0]);
	generates = implies_exec();
	if (prot & PROT_EXEC)
		generates |= (prot & PROT_WRITE) || !address;
	else if (!generates && !(address && starting()))
		return 0;
	return judge_code(&bearer, address, generates) ? -EPERM : 0;
}

SEC("lsm/file_mprotect")
int BPF_PROG(file_mprotect, struct vm_area_struct *vma, unsigned long reqprot, unsigned long prot)
{
	struct bearer bearer;
	__u64 file;

	if (!subject(&bearer))
		return 0;
	if (!(prot & PROT_EXEC))
		return 0;
	file = (__u64)BPF_CORE_READ(vma, vm_file);
	/* private pages that were written to are no longer what the file says */
	return judge_code(&bearer, file,
			  (prot & PROT_WRITE) || !file || BPF_CORE_READ(vma, anon_vma))
		       ? -EPERM
		       : 0;
}

/*
 * Adoption: binds running processes whose executable is an admitted one, and their children. The
 * daemon repeats it until `adopted` stays, after every attach and admission.
 */
__u64 adopted = 0;     /* processes labelled since load */
__u32 spared_tgid = 0; /* the daemon itself */

/* The slot that a running process belongs to by its executable, or by its parent's label. */
static __always_inline __u32 slot_by_running(struct task_struct *task)
{
	struct bearer bearer = {};
	struct subject *entry;
	struct file *exe;
	__u64 address;
	__u32 *inherited;

	exe = BPF_CORE_READ(task, mm, exe_file);
	if (!exe)
		return 0;
	entry = subject_of((__u64)BPF_CORE_READ(exe, f_inode));
	if (entry && !(entry->flags & SUBJECT_SCRIPT)) {
		bearer.slot = entry->slot;
		read_slot(&bearer);
		if (in_force(&bearer))
			return entry->slot;
	}
	address = (__u64)BPF_CORE_READ(task, real_parent, group_leader);
	inherited = bpf_map_lookup_elem(&mirror, &address);
	return inherited ? *inherited : 0;
}

/* Every thread is looked at: a main thread that has ended has no executable any more. */
SEC("iter/task")
int adopt(struct bpf_iter__task *ctx)
{
	struct task_struct *task = ctx->task;
	struct task_struct *leader;
	struct label *label;
	__u64 address;
	__u32 slot;

	if (!task)
		return 0;
	leader = task->group_leader;
	if (!leader || task->tgid == 1 || task->tgid == spared_tgid)
		return 0;
	label = bpf_task_storage_get(&labels, leader, NULL, 0);
	if (label && label->slot)
		return 0;
	slot = slot_by_running(task);
	if (!slot)
		return 0;
	label = bpf_task_storage_get(&labels, leader, NULL, BPF_LOCAL_STORAGE_GET_F_CREATE);
	if (!label)
		return 0;
	address = address_of(leader);
	/* the mirror first: from here on a storage that cannot be read denies */
	if (bpf_map_update_elem(&mirror, &address, &slot, BPF_ANY))
		return 0;
	label->slot = slot;
	__sync_fetch_and_add(&adopted, 1);
	return 0;
}

/*
 * What the kernel knows of a descriptor of the caller: the key that the hooks will see (st_dev
 * differs on btrfs and overlayfs), who writes to it, and the path as rules see it. Run by the
 * daemon, and by tests on any kernel, with BPF_PROG_TEST_RUN.
 */
struct identity identified = {};

struct identify_request {
	__s32 fd;
};

SEC("syscall")
int identify(struct identify_request *request)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct scratch *scratch;
	struct fdtable *table;
	struct file **slot;
	struct file *file = NULL;
	struct inode *inode;
	struct location where;
	__u32 leaf = 0;
	int at;

	identified.error = -EBADF;
	identified.length = 0;
	if (request->fd < 0)
		return 0;
	table = BPF_CORE_READ(task, files, fdt);
	if ((__u32)request->fd >= BPF_CORE_READ(table, max_fds))
		return 0;
	slot = BPF_CORE_READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), slot + request->fd);
	if (!file)
		return 0;
	inode = BPF_CORE_READ(file, f_inode);
	key_of((__u64)inode, &identified.key);
	identified.magic = BPF_CORE_READ(inode, i_sb, s_magic);
	identified.writers = BPF_CORE_READ(inode, i_writecount.counter);
	identified.error = -ENOMEM;
	scratch = scratch_of_current();
	if (!scratch)
		return 0;
	where = location_of(&file->f_path);
	identified.error = -ENOENT;
	if (deleted(where.dentry) || !own_namespace(where.mount))
		return 0;
	at = walk_path(scratch, where.dentry, where.mount, &leaf);
	if (at < 0)
		return 0;
	at &= WALK_MAX - 1;
	identified.length = WALK_MAX - 1 - at;
	bpf_probe_read_kernel_str(identified.path, WALK_MAX, &scratch->path[at]);
	identified.error = 0;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
