// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain exec: who is who, and which code runs. Decides each execve by the identity of the file
 * (inode, claimed path), labels and hands labels on, holds subjects to process:exec and code:*.
 * Rules are keyed by path. Without a rule a subject runs and maps nothing; a task outside may run
 * everything but what is claimed and not admitted.
 */
#include "claim.bpf.h"
#include "managed.bpf.h"
#include "pinned.bpf.h"
#include "rule.bpf.h"
#include "unit.bpf.h"

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
	/* who is released has a label too, and an exec may fail */
	if (!label->slot)
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

static __always_inline int refuse_label(struct linux_binprm *bprm, __u32 slot, __u32 reason)
{
	struct location where = location_of(&BPF_CORE_READ(bprm, file)->f_path);

	return refuse_exec(slot, OP_LABEL, reason, where.dentry, where.mount);
}

/*
 * Whether a subject hands on more than arguments and descriptors: filters that answer system calls
 * (who may not be root over all of the machine sets no_new_privs for them), a root directory of its
 * own, or a layout of memory.
 */
static __always_inline bool has_a_hand(struct linux_binprm *bprm)
{
	return (bprm->unsafe & LSM_UNSAFE_NO_NEW_PRIVS) ||
	       (bpf_get_current_task_btf()->personality & PER_CLEAR_ON_SETID) ||
	       own_root() != WALK_ROOT;
}

/*
 * Gives what runs its artifact's label in place of the one that it has (0: none), unless another
 * task has a hand in it.
 */
static __always_inline int change_label(struct linux_binprm *bprm, __u32 from, __u32 slot,
					const struct subject_key *key)
{
	__u32 teller = from ? from : slot;

	if ((bprm->unsafe & LSM_UNSAFE_SHARE) || (from && has_a_hand(bprm)))
		return refuse_label(bprm, teller, REASON_UNSAFE);
	if (bprm->unsafe & LSM_UNSAFE_PTRACE) {
		struct task_struct *tracer = bpf_get_current_task_btf()->parent;
		struct bearer other;

		if (bearer_of(tracer->group_leader, &other))
			return refuse_label(bprm, teller, REASON_UNSAFE);
	}
	if (set_pending(from, slot, key))
		return refuse_label(bprm, teller, REASON_MEMORY);
	/* LD_PRELOAD and friends of the parent do not cross a change of label */
	bpf_bprm_opts_set(bprm, BPF_F_BPRM_SECUREEXEC);
	return 0;
}

/*
 * An envelope lets something run under its own artifact's label, which it must have. `bearer` is of
 * no use afterwards: the stack is small.
 */
static __always_inline int take_own_label(struct linux_binprm *bprm, struct bearer *bearer,
					  __u32 slot, const struct subject_key *key)
{
	__u32 from = bearer->slot;
	__u8 mode = bearer->mode;

	if (!slot)
		return refuse_label(bprm, from, REASON_NO_ARTIFACT);
	bearer->slot = slot;
	read_slot(bearer);
	/* nothing would be refused to it there */
	if (bearer->mode == MODE_AUDIT && mode != MODE_AUDIT)
		return refuse_label(bprm, from, REASON_WIDENS);
	return change_label(bprm, from, slot, key);
}

/* A file that is to run: where it lies, which it is, and whose program, if anybody's. */
struct candidate {
	struct location where;
	struct subject_key key;
	struct subject *entry;
};

/* Fills `candidate`. What is claimed and not admitted, or of a slot that is not in force, is
 * refused. */
static __always_inline int examine(struct linux_binprm *bprm, struct candidate *candidate)
{
	struct bearer owner = {};
	__u32 slot;

	candidate->where = location_of(&BPF_CORE_READ(bprm, file)->f_path);
	key_of((__u64)BPF_CORE_READ(bprm, file, f_inode), &candidate->key);
	candidate->entry = subject_by_key(&candidate->key);
	if (!candidate->entry) {
		slot = claimant(candidate->where.dentry, candidate->where.mount,
				candidate->key.dev);
		/* it may have been renamed since it was opened: what was asked for counts as well
		 */
		if (!slot)
			slot = claimant_of_name((__u64)bprm->interp, candidate->key.dev);
		return slot ? refuse_exec(slot, OP_CLAIMED, REASON_CONTENT, candidate->where.dentry,
					  candidate->where.mount)
			    : 0;
	}
	owner.slot = candidate->entry->slot;
	read_slot(&owner);
	if (!in_force(&owner))
		return refuse_exec(owner.slot, OP_CLAIMED, REASON_REFUSED, candidate->where.dentry,
				   candidate->where.mount);
	return 0;
}

/* Where nothing runs for a task outside that no artifact admits. */
static __always_inline int examine_managed(const struct candidate *candidate)
{
	if (candidate->entry || !is_managed(candidate->where.dentry, candidate->where.mount))
		return 0;
	return refuse_outsider(0, OP_CLAIMED, REASON_MANAGED, candidate->where.dentry,
			       candidate->where.mount);
}

/* A script that goes by another name than its admitted one. */
static __always_inline int refuse_name(const struct candidate *candidate, __u32 slot)
{
	return refuse_exec(slot, OP_CLAIMED, REASON_SCRIPT_PATH, candidate->where.dentry,
			   candidate->where.mount);
}

/*
 * Where `cartouche run` has asked the daemon to lead this process. It holds until a program runs:
 * an execve that fails may be followed by another.
 */
static __always_inline __u32 invitation(void)
{
	struct task_struct *leader = bpf_get_current_task_btf()->group_leader;
	struct label *label;

	if (!leader->bpf_storage)
		return 0;
	label = bpf_task_storage_get(&labels, leader, NULL, 0);
	return label ? label->invited : 0;
}

/*
 * The first program of a unit's process, or of one that was invited, is a subject of that slot
 * whatever it is. A unit starts its artifact's executables, and what the envelope lets it run; what
 * is run by invitation the administrator has chosen. `bearer` and `place` are lent: the stack is
 * small.
 */
static __always_inline int start(struct linux_binprm *bprm, __u32 slot, bool invited,
				 struct candidate *candidate, struct bearer *bearer,
				 struct place *place)
{
	__u32 own = candidate->entry ? candidate->entry->slot : 0;

	bearer->slot = slot;
	read_slot(bearer);
	if (!in_force(bearer))
		return refuse_exec(slot, OP_CLAIMED, REASON_REFUSED, place->dentry, place->mount);
	if (own == slot || is_unit_program(&candidate->key, slot))
		return change_label(bprm, 0, slot, &candidate->key);
	/* another artifact's program is run under that one's envelope, or not at all */
	if (invited && own)
		return refuse_label(bprm, slot, REASON_WIDENS);
	if (invited && examine_managed(candidate))
		return -EPERM;
	if (!invited && judge(bearer, place))
		return -EPERM;
	if (place->granted & RULE_ARTIFACT)
		return own ? change_label(bprm, 0, own, &candidate->key)
			   : refuse_label(bprm, slot, REASON_NO_ARTIFACT);
	/* its interpreter is one more program that runs */
	candidate->key = (struct subject_key){};
	return change_label(bprm, 0, slot, &candidate->key);
}

SEC("lsm/bprm_creds_for_exec")
int BPF_PROG(bprm_creds_for_exec, struct linux_binprm *bprm)
{
	struct candidate candidate = {};
	struct bearer bearer = {};
	struct place place = {
		.wanted = BIT(RIGHT_EXEC),
		.domain = DOMAIN_EXEC,
	};
	__u32 slot = 0, released = 0, unit, invited;
	bool held;

	held = !outside() && labelled(bpf_get_current_task_btf()->group_leader, &bearer);
	if (held && bearer.state == SLOT_RELEASED) {
		released = bearer.slot;
		held = false;
	}
	forget_pending();
	if (examine(bprm, &candidate))
		return -EPERM;
	place.dentry = candidate.where.dentry;
	place.mount = candidate.where.mount;
	if (candidate.entry) {
		slot = candidate.entry->slot;
		if ((candidate.entry->flags & SUBJECT_SCRIPT) &&
		    claimant_of_name((__u64)bprm->filename, candidate.key.dev) != slot)
			return refuse_name(&candidate, slot);
	}
	if (held) {
		/* memfd and the like: no path; running one is making code */
		if (internal_mount(place.mount) && in_force(&bearer) &&
		    (bearer.flags & PLAN_CODE_GENERATE))
			;
		else if (judge(&bearer, &place))
			return -EPERM;
		if ((place.granted & RULE_ARTIFACT) && slot != bearer.slot)
			return take_own_label(bprm, &bearer, slot, &candidate.key) ? -EPERM : 0;
		/* `inherit`: the child keeps this label, whatever the file is */
		candidate.key = (struct subject_key){};
		return set_pending(bearer.slot, bearer.slot, &candidate.key) ? -EPERM : 0;
	}
	invited = invitation();
	unit = invited;
	if (!unit && !is_manager_s(bpf_get_current_task_btf(), place.dentry))
		unit = slot_by_unit(bpf_get_current_task_btf());
	if (unit)
		return start(bprm, unit, invited, &candidate, &bearer, &place) ? -EPERM : 0;
	if (slot)
		return change_label(bprm, 0, slot, &candidate.key) ? -EPERM : 0;
	if (examine_managed(&candidate))
		return -EPERM;
	/* for when it is held again: the label of a process is its leader's, which any thread may
	 * become */
	return released && set_pending(released, released, &candidate.key) ? -EPERM : 0;
}

/*
 * Once for the file and once for each interpreter. The file itself is decided above; an interpreter
 * is one more program that runs, and may be a subject where the script is none.
 */
SEC("lsm/bprm_check_security")
int BPF_PROG(bprm_check_security, struct linux_binprm *bprm)
{
	struct task_struct *task = bpf_get_current_task_btf();
	struct candidate candidate = {};
	struct bearer bearer = {};
	struct label *own = NULL;
	__u32 slot;

	/* `interp` still is `filename` until a #! line (or binfmt_misc) has named another one */
	if (bprm->interp == bprm->filename)
		return 0;
	if (examine(bprm, &candidate))
		return -EPERM;
	if (task->bpf_storage)
		own = bpf_task_storage_get(&labels, task, NULL, 0);
	if (own) {
		bearer.slot = own->pending;
		read_slot(&bearer);
	}
	if (own && own->pending && bearer.state != SLOT_RELEASED) {
		struct place place = {
			.dentry = candidate.where.dentry,
			.mount = candidate.where.mount,
			.wanted = BIT(RIGHT_EXEC),
			.domain = DOMAIN_EXEC,
		};

		/*
		 * An admitted script says itself what runs it, but only by name: the file that
		 * stands there is judged as the code that it is.
		 */
		if (own->key.ino)
			place.wanted = BIT(RIGHT_LOAD);
		if (own->key.ino &&
		    is_pinned_code(&bearer, (__u64)BPF_CORE_READ(bprm, file, f_inode)))
			return 0;
		if (judge(&bearer, &place))
			return -EPERM;
		/* it may run under its own artifact's label, and a script has that of its user */
		if (place.granted & RULE_ARTIFACT)
			return refuse_label(bprm, bearer.slot, REASON_WIDENS);
		return 0;
	}
	/* a subject in execve has a pending label, or something is wrong */
	if (subject(&bearer))
		return refuse_label(bprm, bearer.slot, REASON_MEMORY);
	if (!candidate.entry)
		return examine_managed(&candidate) ? -EPERM : 0;
	slot = candidate.entry->slot;
	if ((candidate.entry->flags & SUBJECT_SCRIPT) &&
	    claimant_of_name((__u64)bprm->interp, candidate.key.dev) != slot)
		return refuse_name(&candidate, slot);
	return change_label(bprm, 0, slot, &candidate.key) ? -EPERM : 0;
}

/* One object and one translation unit, as maps and global functions are shared. */
#include "label.bpf.c"
#include "code.bpf.c"
#include "measure.bpf.c"
#include "adopt.bpf.c"

char LICENSE[] SEC("license") = "GPL";
