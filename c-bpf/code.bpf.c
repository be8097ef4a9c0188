// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain exec: which code a subject maps (code:load, by path or by inode) and makes
 * (code:generate). Without a rule it maps none but its own executable.
 */
#include "managed.bpf.h"
#include "pinned.bpf.h"
#include "rule.bpf.h"

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
		else if (is_pinned_code(bearer, (__u64)BPF_CORE_READ((struct file *)file, f_inode)))
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

/* READ_IMPLIES_EXEC makes what is mapped to be read executable: nothing maps with it. */
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

	if (!subject(&bearer)) {
		if (!(prot & PROT_EXEC))
			return 0;
		bpf_probe_read_kernel(&address, sizeof(address), &ctx[0]);
		return address && judge_outsider(address) ? -EPERM : 0;
	}
	/* 6.12 takes `file` for never NULL and drops a plain test; anonymous mappings have none */
	bpf_probe_read_kernel(&address, sizeof(address), &ctx[0]);
	generates = implies_exec();
	if (prot & PROT_EXEC)
		generates |= (prot & PROT_WRITE) || !address;
	else if (!generates && !(address && (starting() || !in_force(&bearer))))
		return 0;
	return judge_code(&bearer, address, generates) ? -EPERM : 0;
}

SEC("lsm/file_mprotect")
int BPF_PROG(file_mprotect, struct vm_area_struct *vma, unsigned long reqprot, unsigned long prot)
{
	struct bearer bearer;
	__u64 file;

	if (!(prot & PROT_EXEC))
		return 0;
	file = (__u64)BPF_CORE_READ(vma, vm_file);
	if (!subject(&bearer))
		return file && judge_outsider(file) ? -EPERM : 0;
	/* private pages that were written to are no longer what the file says */
	return judge_code(&bearer, file,
			  (prot & PROT_WRITE) || !file || BPF_CORE_READ(vma, anon_vma))
		       ? -EPERM
		       : 0;
}

/*
 * What the task takes on by personality(2). With READ_IMPLIES_EXEC brk makes executable memory and
 * asks no hook that could say no, and neither does personality itself: who takes it on without
 * code:generate does not come back from the call. Answers -EPERM then.
 */
__noinline int judge_personality(__u32 personality)
{
	struct attempt attempt = {
		.domain = DOMAIN_EXEC,
		.operation = OP_CODE_GENERATE,
	};
	struct bearer bearer;

	if (personality == PERSONALITY_ASK || !(personality & READ_IMPLIES_EXEC) || implies_exec())
		return 0;
	if (!subject(&bearer))
		return 0;
	if (in_force(&bearer) && (bearer.flags & PLAN_CODE_GENERATE))
		return 0;
	if (!refuse(&bearer, &attempt))
		return 0;
	bpf_send_signal(SIGKILL);
	return -EPERM;
}

SEC("fentry/__x64_sys_personality")
int BPF_PROG(x64_personality, const struct pt_regs *regs)
{
	if (!outside())
		judge_personality(BPF_CORE_READ(regs, di));
	return 0;
}

/* By the gate for 32-bit programs, which is open to all. */
SEC("fentry/__ia32_sys_personality")
int BPF_PROG(ia32_personality, const struct pt_regs *regs)
{
	if (!outside())
		judge_personality(BPF_CORE_READ(regs, bx));
	return 0;
}
