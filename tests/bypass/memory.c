// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Code that is in no file: each trick ends by running it. */
#include "bypass.h"
#include <sys/personality.h>
#include <sys/ptrace.h>
#include <sys/shm.h>
#include <ucontext.h>

#define PAGE 4096
#define RW (PROT_READ | PROT_WRITE)
#define RX (PROT_READ | PROT_EXEC)
#define RWX (RW | PROT_EXEC)
#ifndef SHM_EXEC
#define SHM_EXEC 0100000
#endif

/* mov $42,%eax; ret */
static const unsigned char code[] = {0xb8, 42, 0, 0, 0, 0xc3};

static int runs(void *page)
{
	errno = ENOEXEC;
	/* what was written there is to be there */
	asm volatile("" : : "r"(page) : "memory");
	return ((int (*)(void))page)() == 42 ? 0 : stopped("running it");
}

static void *page_of(int protection)
{
	return mmap(NULL, PAGE, protection, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static int write_and_execute(void)
{
	void *page = page_of(RWX);

	TRY(page == MAP_FAILED ? -1 : 0);
	memcpy(page, code, sizeof(code));
	return runs(page);
}

static int execute_later(void)
{
	void *page = page_of(RW);

	memcpy(page, code, sizeof(code));
	TRY(mprotect(page, PAGE, RX));
	return runs(page);
}

/* With a key of its own, and by the call for that. */
static int execute_by_key(void)
{
	void *page = page_of(RW);

	memcpy(page, code, sizeof(code));
	TRY(syscall(SYS_pkey_mprotect, page, PAGE, RX, -1));
	return runs(page);
}

static int memory_file(void)
{
	int fd = TRY(memfd_create("code", 0));
	void *page;

	TRY(write(fd, code, sizeof(code)));
	page = mmap(NULL, PAGE, RX, MAP_SHARED, fd, 0);
	TRY(page == MAP_FAILED ? -1 : 0);
	return runs(page);
}

static int own_file(void)
{
	int fd = TRY(open(at("open/file"), O_RDWR));
	void *page;

	TRY(write(fd, code, sizeof(code)));
	page = mmap(NULL, PAGE, RX, MAP_PRIVATE, fd, 0);
	TRY(page == MAP_FAILED ? -1 : 0);
	return runs(page);
}

/* Mapped to be read, executable afterwards. */
static int own_file_later(void)
{
	int fd = TRY(open(at("open/file"), O_RDWR));
	void *page;

	TRY(write(fd, code, sizeof(code)));
	page = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd, 0);
	TRY(mprotect(page, PAGE, RX));
	return runs(page);
}

static int segment(int flags)
{
	int id = TRY(shmget(IPC_PRIVATE, PAGE, 0700));
	void *page = shmat(id, NULL, flags);

	shmctl(id, IPC_RMID, NULL);
	TRY(page == (void *)-1 ? -1 : 0);
	memcpy(page, code, sizeof(code));
	if (!flags)
		TRY(mprotect(page, PAGE, RX));
	return runs(page);
}

static int shared_segment(void)
{
	return segment(SHM_EXEC);
}

static int shared_segment_later(void)
{
	return segment(0);
}

/* Moved to where code was: the rights of a mapping move with it. */
static int moved(void)
{
	int fd = TRY(open("/proc/self/exe", O_RDONLY));
	char *page = mmap(NULL, PAGE, RX, MAP_PRIVATE, fd, 0);
	char *other = page_of(RW);

	memcpy(other, code, sizeof(code));
	TRY(page == MAP_FAILED ? -1 : 0);
	other = mremap(other, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page);
	TRY(other == MAP_FAILED ? -1 : 0);
	TRY(mprotect(other, PAGE, RX));
	return runs(other);
}

/* The private copy of a page of its own program, changed. */
static int own_text(void)
{
	char *page = (char *)((uintptr_t)end_of & ~(uintptr_t)(PAGE - 1));

	TRY(mprotect(page, PAGE, RWX));
	memcpy((void *)(uintptr_t)end_of, code, sizeof(code));
	return runs((void *)(uintptr_t)end_of);
}

/* The same in two steps, never both at once. */
static int own_text_in_turn(void)
{
	char *page = (char *)((uintptr_t)end_of & ~(uintptr_t)(PAGE - 1));
	char *copy = mremap(page, 0, PAGE, MREMAP_MAYMOVE);
	int fd = TRY(open("/proc/self/exe", O_RDONLY));

	if (copy == MAP_FAILED)
		copy = mmap(NULL, PAGE, RX, MAP_PRIVATE, fd, 0);
	TRY(copy == MAP_FAILED ? -1 : 0);
	TRY(mprotect(copy, PAGE, RW));
	memcpy(copy, code, sizeof(code));
	TRY(mprotect(copy, PAGE, RX));
	return runs(copy);
}

/* Pages that can only be executed are written to by the file of the memory. */
static int by_memory_file(void)
{
	int fd = TRY(open("/proc/self/mem", O_RDWR));

	TRY(pwrite(fd, code, sizeof(code), (off_t)(uintptr_t)end_of));
	return runs((void *)(uintptr_t)end_of);
}

/* A child that is traced is written to as well. */
static int by_tracing(void)
{
	pid_t child = TRY(fork());
	long word = 0;
	int status;

	if (!child) {
		if (ptrace(PTRACE_TRACEME, 0, 0, 0))
			_exit(1);
		raise(SIGSTOP);
		_exit(((int (*)(void))(uintptr_t)read_secret)());
	}
	TRY(waitpid(child, &status, 0));
	errno = EPERM;
	TRY(WIFSTOPPED(status) ? 0 : -1);
	memcpy(&word, code, sizeof(code));
	TRY(ptrace(PTRACE_POKETEXT, child, read_secret, word));
	TRY(ptrace(PTRACE_CONT, child, 0, 0));
	TRY(waitpid(child, &status, 0));
	errno = ENOEXEC;
	return WIFEXITED(status) && WEXITSTATUS(status) == 42 ? 0 : stopped("running it");
}

static int by_tracing_from_outside(void)
{
	pid_t child = TRY(fork());
	long word = 0;
	int status;

	if (!child)
		for (;;)
			pause();
	if (ptrace(PTRACE_SEIZE, child, 0, 0) || ptrace(PTRACE_INTERRUPT, child, 0, 0)) {
		status = errno;
		kill(child, SIGKILL);
		errno = status;
		return stopped("seizing a child");
	}
	TRY(waitpid(child, &status, 0));
	memcpy(&word, code, sizeof(code));
	status = ptrace(PTRACE_POKETEXT, child, read_secret, word);
	kill(child, SIGKILL);
	return TRY(status);
}

static int read_implies_execute(void)
{
	void *page;

	TRY(personality(READ_IMPLIES_EXEC));
	page = page_of(RW);
	TRY(page == MAP_FAILED ? -1 : 0);
	memcpy(page, code, sizeof(code));
	return runs(page);
}

static int heap(void)
{
	char *end = sbrk(0),
	     *start = (char *)(((uintptr_t)end + PAGE - 1) & ~(uintptr_t)(PAGE - 1));

	TRY(personality(READ_IMPLIES_EXEC));
	TRY(brk(start + PAGE));
	personality(0);
	memcpy(start, code, sizeof(code));
	return runs(start);
}

/* Where signals are delivered, a thread's stack, its own: what grows keeps the rights it had. */
static int stack(void)
{
	unsigned char bytes[64];
	void *page = (void *)((uintptr_t)bytes & ~(uintptr_t)(PAGE - 1));

	memcpy(bytes, code, sizeof(code));
	TRY(mprotect(page, (uintptr_t)(bytes + sizeof(bytes)) - (uintptr_t)page, RWX));
	return runs(bytes);
}

static int growing_stack(void)
{
	unsigned char bytes[64];
	void *page = (void *)((uintptr_t)bytes & ~(uintptr_t)(PAGE - 1));

	memcpy(bytes, code, sizeof(code));
	TRY(mprotect(page, PAGE, RWX | PROT_GROWSDOWN));
	return runs(bytes);
}

/* This program, linked so that it asks for a stack of that kind. */
static int stack_of_elf(void)
{
	execv("/job/bypass-stack", words_of("bypass", "_on-the-stack"));
	return stopped("a program with such a stack");
}

static int on_the_stack(void)
{
	unsigned char bytes[64];

	memcpy(bytes, code, sizeof(code));
	return runs(bytes);
}

const struct trick memory_tricks[] = {
	{"write-and-execute", write_and_execute},
	{"execute-later", execute_later},
	{"execute-by-key", execute_by_key},
	{"memory-file-mapped", memory_file},
	{"own-file-mapped", own_file},
	{"own-file-mapped-later", own_file_later},
	{"segment-executable", shared_segment},
	{"segment-executable-later", shared_segment_later},
	{"moved-to-code", moved},
	{"own-text", own_text},
	{"own-text-in-turn", own_text_in_turn},
	{"own-memory-file", by_memory_file},
	{"traced-child", by_tracing},
	{"seized-child", by_tracing_from_outside},
	{"read-implies-execute", read_implies_execute},
	{"executable-heap", heap},
	{"stack-executable", stack},
	{"growing-stack-executable", growing_stack},
	{"executable-stack", stack_of_elf},
	{"_on-the-stack", on_the_stack},
	{},
};
