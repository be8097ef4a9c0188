// SPDX-License-Identifier: GPL-2.0-only
/*
 * Where the kernel keeps rename_lock, which path.bpf.h reads. Asked once, before the domains are
 * loaded: for an `extern ... __ksym` libbpf would read all of /proc/kallsyms for each of them,
 * which takes longer than everything else of a start, and would take its zeros for an address.
 */
#include "kernel.bpf.h"

SEC("syscall")
int find_rename_lock(__u64 *address)
{
	const char name[] = "rename_lock";
	__u64 found = 0;
	long error;

	error = bpf_kallsyms_lookup_name(name, sizeof(name), 0, &found);
	*address = found;
	return error;
}

char LICENSE[] SEC("license") = "GPL";
