// SPDX-License-Identifier: GPL-2.0-only
/*
 * Domain guard: bpf(2). A subject has no use of it at all; of others, nobody gets a descriptor of
 * Cartouche's maps (one to read is enough to load a program that writes), nor updates or detaches
 * its links. Everything else of others' is theirs. Nothing is guarded until the daemon says so.
 */
#include "guard.bpf.h"

static __always_inline int refuse_subject(void)
{
	struct attempt attempt = {
		.domain = DOMAIN_GUARD,
		.operation = OP_BPF,
		.reason = REASON_NEVER,
		.object_kind = OBJECT_NUMBER,
	};
	struct bearer bearer;

	if (!subject(&bearer))
		return 0;
	return refuse(&bearer, &attempt);
}

/* The id of the program behind a link of which the current task has this descriptor. */
static __always_inline __u32 program_of_link(__u32 fd)
{
	struct fdtable *table = BPF_CORE_READ(current_task(), files, fdt);
	struct file **files, *file = NULL;
	struct bpf_link *link;

	if (fd >= BPF_CORE_READ(table, max_fds))
		return 0;
	files = BPF_CORE_READ(table, fd);
	bpf_probe_read_kernel(&file, sizeof(file), files + fd);
	link = BPF_CORE_READ(file, private_data);
	return BPF_CORE_READ(link, prog, aux, id);
}

SEC("lsm/bpf")
int BPF_PROG(bpf, int command, union bpf_attr *attributes)
{
	__u32 fd = 0, id;

	if (refuse_subject())
		return -EPERM;
	if ((command != BPF_LINK_UPDATE && command != BPF_LINK_DETACH) || !guard_on())
		return 0;
	/* link_fd comes first in both */
	bpf_probe_read_kernel(&fd, sizeof(fd), attributes);
	id = program_of_link(fd);
	if (!is_guarded_id(GUARDED_PROGRAM, id) || is_keeper())
		return 0;
	return refuse_guarded(id, 0, 0) ? -EPERM : 0;
}

/* Inner maps come and go with plans: they are known by their names. */
static __always_inline bool is_inner_map(const struct bpf_map *map)
{
	const char expected[] = INNER_MAP_PREFIX;
	char name[sizeof(expected)] = {};
	__u32 i;

	bpf_probe_read_kernel(name, sizeof(name), map->name);
	for (i = 0; i < sizeof(expected) - 1; i++)
		if (name[i] != expected[i])
			return false;
	return true;
}

SEC("lsm/bpf_map")
int BPF_PROG(bpf_map, struct bpf_map *map)
{
	if (refuse_subject())
		return -EPERM;
	if (!guard_on())
		return 0;
	if ((!is_guarded_id(GUARDED_MAP, map->id) && !is_inner_map(map)) || is_keeper())
		return 0;
	return refuse_guarded(map->id, 0, 0) ? -EPERM : 0;
}

SEC("lsm/bpf_prog")
int bpf_prog(unsigned long long *ctx)
{
	return refuse_subject() ? -EPERM : 0;
}

/* Run by the daemon: the process that runs it is the one that is guarded. */
SEC("syscall")
int stand_guard(void *ctx)
{
	struct task_struct *leader = bpf_get_current_task_btf()->group_leader;
	__u32 zero = 0;
	struct guarded *guard = bpf_map_lookup_elem(&guarded, &zero);

	if (!guard)
		return -1;
	guard->tgid = leader->tgid;
	guard->start_time = leader->start_time;
	return 0;
}

char LICENSE[] SEC("license") = "GPL";
