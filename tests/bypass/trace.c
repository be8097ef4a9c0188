// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Looking into another process, and into what it has open. */
#include "bypass.h"
#include <dirent.h>
#include <sys/ptrace.h>
#include <sys/uio.h>

static const char *of_victim(const char *name)
{
	static char path[128];

	snprintf(path, sizeof(path), "/proc/%d/%s", victim, name);
	return path;
}

static int by_attach(void)
{
	int status;

	TRY(ptrace(PTRACE_ATTACH, victim, 0, 0));
	TRY(waitpid(victim, &status, 0));
	TRY(ptrace(PTRACE_POKEDATA, victim, victim_secret, 0));
	TRY(ptrace(PTRACE_DETACH, victim, 0, 0));
	return 0;
}

static int by_seize(void)
{
	int status;

	TRY(ptrace(PTRACE_SEIZE, victim, 0, 0));
	TRY(ptrace(PTRACE_INTERRUPT, victim, 0, 0));
	TRY(waitpid(victim, &status, 0));
	TRY(ptrace(PTRACE_POKEDATA, victim, victim_secret, 0));
	return 0;
}

static int read_memory(void)
{
	char text[128] = "";
	struct iovec here = {text, sizeof(text)}, there = {victim_secret, sizeof(text)};

	TRY(process_vm_readv(victim, &here, 1, &there, 1, 0));
	return show_text(text, strlen(text));
}

static int write_memory(void)
{
	char text[8] = "";
	struct iovec here = {text, sizeof(text)}, there = {victim_secret, sizeof(text)};

	return TRY(process_vm_writev(victim, &here, 1, &there, 1, 0)) < 0;
}

static int proc_read(void)
{
	char text[128] = "";
	int fd = TRY(open(of_victim("mem"), O_RDONLY));

	TRY(pread(fd, text, sizeof(text) - 1, (off_t)victim_secret));
	return show_text(text, strlen(text));
}

static int proc_write(void)
{
	int fd = TRY(open(of_victim("mem"), O_RDWR));

	return TRY(pwrite(fd, "", 1, (off_t)victim_secret)) != 1;
}

static int take_descriptor(void)
{
	int fd = TRY(syscall(SYS_pidfd_open, victim, 0));
	int taken = TRY(syscall(SYS_pidfd_getfd, fd, 9, 0));

	lseek(taken, 0, SEEK_SET);
	return show(taken);
}

static int by_its_descriptor(void)
{
	return show_file(of_victim("fd/9"));
}

static int by_its_root(void)
{
	char path[4096];

	snprintf(path, sizeof(path), "%s%s", of_victim("root"), at("secret"));
	return show_file(path);
}

static int by_its_directory(void)
{
	return show_file(of_victim("cwd/secret"));
}

static int by_its_environment(void)
{
	char text[8192];
	int fd = TRY(open(of_victim("environ"), O_RDONLY));
	ssize_t i, length = TRY(read(fd, text, sizeof(text)));

	/* what was set later stands on the heap: only being able to look counts */
	for (i = 0; i < length; i++)
		if (!text[i])
			text[i] = '\n';
	return length <= 0;
}

static int its_map(void)
{
	return show_file(of_victim("maps"));
}

/* What it has mapped is reached by the address of the mapping. */
static int by_mapped_file(void)
{
	struct dirent *entry;
	char path[512];
	DIR *directory = opendir(of_victim("map_files"));
	int fd = -1;

	TRY(directory ? 0 : -1);
	errno = 0;
	while (fd < 0 && (entry = readdir(directory))) {
		snprintf(path, sizeof(path), "%s/%s", of_victim("map_files"), entry->d_name);
		if (entry->d_name[0] != '.')
			fd = open(path, O_RDONLY);
	}
	return TRY(fd) < 0;
}

static int parent_traces(void)
{
	return TRY(ptrace(PTRACE_TRACEME, 0, 0, 0));
}

static int compare(void)
{
	return TRY(syscall(SYS_kcmp, victim, getpid(), 1 /* KCMP_VM */, 0, 0)) < 0;
}

static int advise(void)
{
	int fd = TRY(syscall(SYS_pidfd_open, victim, 0));
	struct iovec there = {(void *)((uintptr_t)victim_secret & ~4095ul), 4096};

	return TRY(syscall(SYS_process_madvise, fd, &there, 1, MADV_PAGEOUT, 0)) < 0;
}

static int robust_list(void)
{
	void *head;
	size_t length;

	return TRY(syscall(SYS_get_robust_list, victim, &head, &length));
}

const struct trick trace_tricks[] = {
	{"ptrace-attach", by_attach},
	{"ptrace-seize", by_seize},
	{"vm-read", read_memory},
	{"vm-write", write_memory},
	{"proc-mem-read", proc_read},
	{"proc-mem-write", proc_write},
	{"pidfd-getfd", take_descriptor},
	{"proc-descriptor", by_its_descriptor},
	{"proc-root", by_its_root},
	{"proc-directory", by_its_directory},
	{"proc-environment", by_its_environment},
	{"proc-maps", its_map},
	{"proc-map-files", by_mapped_file},
	{"traced-by-parent", parent_traces},
	{"compare-memory", compare},
	{"advise-memory", advise},
	{"robust-list", robust_list},
	{},
};
