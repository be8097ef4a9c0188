// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Every road by which one process ends, stops or hinders another. */
#include "bypass.h"
#include <linux/sched.h>
#include <linux/sockios.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#ifndef F_SETSIG
#define F_SETSIG 10
#endif
#define CGROUP "/sys/fs/cgroup/bypass"

static int by_kill(void)
{
	return TRY(kill(victim, SIGKILL));
}

static int by_group(void)
{
	return TRY(kill(-victim, SIGKILL));
}

static int by_thread(void)
{
	return TRY(syscall(SYS_tgkill, victim, victim, SIGKILL));
}

static int by_old_thread(void)
{
	return TRY(syscall(SYS_tkill, victim, SIGKILL));
}

static int by_queue(void)
{
	siginfo_t information = {.si_code = SI_QUEUE};

	return TRY(syscall(SYS_rt_sigqueueinfo, victim, SIGKILL, &information));
}

static int by_thread_queue(void)
{
	siginfo_t information = {.si_code = SI_QUEUE};

	return TRY(syscall(SYS_rt_tgsigqueueinfo, victim, victim, SIGKILL, &information));
}

static int by_pidfd(void)
{
	int fd = TRY(syscall(SYS_pidfd_open, victim, 0));

	return TRY(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
}

/* A directory of /proc is a pidfd too. */
static int by_proc(void)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "/proc/%d", victim);
	fd = TRY(open(path, O_DIRECTORY));
	return TRY(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
}

static int by_given_pidfd(void)
{
	int fd = TRY(from_helper(4));

	return TRY(syscall(SYS_pidfd_send_signal, fd, SIGKILL, NULL, 0));
}

static int by_stop(void)
{
	return TRY(kill(victim, SIGSTOP));
}

/* Whoever owns a descriptor gets its signal. */
static int owned(int (*give)(int fd))
{
	int ends[2];

	TRY(socketpair(AF_UNIX, SOCK_STREAM, 0, ends));
	TRY(give(ends[0]));
	TRY(fcntl(ends[0], F_SETSIG, SIGKILL));
	TRY(fcntl(ends[0], F_SETFL, O_ASYNC));
	TRY(write(ends[1], "x", 1));
	return 0;
}

static int give(int fd)
{
	return fcntl(fd, F_SETOWN, victim);
}

static int give_group(int fd)
{
	return fcntl(fd, F_SETOWN, -victim);
}

static int give_extended(int fd)
{
	struct f_owner_ex owner = {F_OWNER_PID, victim};

	return fcntl(fd, F_SETOWN_EX, &owner);
}

static int give_by_ioctl(int fd)
{
	int owner = victim;

	return ioctl(fd, FIOSETOWN, &owner);
}

static int give_group_by_ioctl(int fd)
{
	int owner = victim;

	return ioctl(fd, SIOCSPGRP, &owner);
}

/* The gate for 32-bit programs: the same command, another entry. */
static int give_by_32(int fd)
{
	int *owner = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
	long result = 54; /* ioctl */

	*owner = victim;
	asm volatile("int $0x80"
		     : "+a"(result)
		     : "b"((long)fd), "c"((long)FIOSETOWN), "d"(owner)
		     : "r8", "r9", "r10", "r11", "memory");
	if (result >= 0)
		return 0;
	errno = -result;
	return -1;
}

static int by_owner(void)
{
	return owned(give);
}

static int by_owner_group(void)
{
	return owned(give_group);
}

static int by_extended_owner(void)
{
	return owned(give_extended);
}

static int by_ioctl_owner(void)
{
	return owned(give_by_ioctl);
}

static int by_ioctl_group(void)
{
	return owned(give_group_by_ioctl);
}

static int by_ioctl_32(void)
{
	return owned(give_by_32);
}

static int by_limit(void)
{
	struct rlimit none = {0, 0};

	return TRY(prlimit(victim, RLIMIT_NOFILE, &none, NULL));
}

static int by_priority(void)
{
	return TRY(setpriority(PRIO_PROCESS, victim, 19));
}

static int by_group_priority(void)
{
	return TRY(setpriority(PRIO_PGRP, victim, 19));
}

static int by_cgroup(const char *file)
{
	int fd = TRY(open(file, O_WRONLY));

	return TRY(write(fd, "1", 1)) != 1;
}

static int by_cgroup_kill(void)
{
	return by_cgroup(CGROUP "/cgroup.kill");
}

static int by_cgroup_freeze(void)
{
	return by_cgroup(CGROUP "/cgroup.freeze");
}

/* Into the cgroup of others, whose service manager ends and accounts what is in there. */
static int into_cgroup(void)
{
	struct clone_args arguments = {.flags = CLONE_INTO_CGROUP, .exit_signal = SIGCHLD};
	char text[256] = "";
	pid_t child;

	arguments.cgroup = TRY(open(CGROUP, O_PATH | O_DIRECTORY));
	child = TRY(syscall(SYS_clone3, &arguments, sizeof(arguments)));
	if (!child) {
		int fd = open("/proc/self/cgroup", O_RDONLY);

		_exit(read(fd, text, sizeof(text) - 1) <= 0 || !strstr(text, "/bypass"));
	}
	return end_of(child);
}

const struct trick signal_tricks[] = {
	{"kill", by_kill},
	{"kill-group", by_group},
	{"tgkill", by_thread},
	{"tkill", by_old_thread},
	{"sigqueue", by_queue},
	{"sigqueue-thread", by_thread_queue},
	{"pidfd-signal", by_pidfd},
	{"proc-as-pidfd", by_proc},
	{"pidfd-from-helper", by_given_pidfd},
	{"stop", by_stop},
	{"owner", by_owner},
	{"owner-group", by_owner_group},
	{"owner-extended", by_extended_owner},
	{"owner-ioctl", by_ioctl_owner},
	{"owner-ioctl-group", by_ioctl_group},
	{"owner-ioctl-32", by_ioctl_32},
	{"limit-of-others", by_limit},
	{"priority-of-others", by_priority},
	{"priority-of-group", by_group_priority},
	{"cgroup-kill", by_cgroup_kill},
	{"cgroup-freeze", by_cgroup_freeze},
	{"cgroup-entered", into_cgroup},
	{},
};
