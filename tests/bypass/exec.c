// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * Running what is not to be run, and losing the label on the way: what runs in the end reads the
 * secret.
 */
#include "bypass.h"
#include <dlfcn.h>
#include <linux/sched.h>
#include <pthread.h>
#include <sys/personality.h>

#define CAT "/usr/bin/cat"

static int cat(const char *program)
{
	execl(program, "cat", at("secret"), NULL);
	return stopped("execve");
}

static int undeclared(void)
{
	return cat(CAT);
}

static int in_child(int (*act)(void))
{
	pid_t child = TRY(fork());

	if (!child)
		_exit(act());
	return end_of(child);
}

static int forks_twice(void)
{
	return in_child(read_secret);
}

/* The middle one is gone before the last one acts: nobody of the family is left. */
static int double_fork(void)
{
	int ends[2];
	char byte;

	TRY(pipe(ends));
	if (!TRY(fork())) {
		pid_t middle = getpid();

		setsid();
		if (fork())
			_exit(0);
		while (getppid() == middle)
			usleep(1000);
		read_secret();
		_exit(0);
	}
	close(ends[1]);
	return TRY(read(ends[0], &byte, 1));
}

static int vfork_exec(void)
{
	pid_t child = vfork();

	if (!child) {
		execv(own_path, words_of("bypass", "plainly"));
		_exit(1);
	}
	return end_of(child);
}

static int clone_with(uint64_t flags, uint64_t signal)
{
	struct clone_args arguments = {.flags = flags, .exit_signal = signal};
	pid_t child = TRY(syscall(SYS_clone3, &arguments, sizeof(arguments)));

	if (!child) {
		alarm(10);
		read_secret();
		_exit(0);
	}
	if (flags & CLONE_PARENT)
		sleep(1); /* somebody else's child now */
	else
		return end_of(child);
	return 0;
}

static int clone_parent(void)
{
	return clone_with(CLONE_PARENT, 0);
}

static int clone_without_signal(void)
{
	return clone_with(0, 0);
}

static int clone_shared(void)
{
	return clone_with(CLONE_FILES | CLONE_FS | CLONE_SYSVSEM | CLONE_IO, SIGCHLD);
}

static void *acts(void *unused)
{
	read_secret();
	return unused;
}

static int in_thread(void)
{
	pthread_t thread;

	errno = pthread_create(&thread, NULL, acts, NULL);
	TRY(errno ? -1 : 0);
	pthread_join(thread, NULL);
	return 0;
}

/* The leader ends before: whose label is it then? */
static void *acts_alone(void *unused)
{
	usleep(100000);
	exit(read_secret());
	return unused;
}

static int without_leader(void)
{
	pthread_t thread;

	errno = pthread_create(&thread, NULL, acts_alone, NULL);
	TRY(errno ? -1 : 0);
	syscall(SYS_exit, 0);
	return 0;
}

static void *spins(void *unused)
{
	for (;;)
		getppid();
	return unused;
}

/* Who loses against another thread waits for its end with the rest. */
static void *becomes(void *unused)
{
	again("plainly");
	sleep(5);
	exit(1);
	return unused;
}

/* A thread executes while others run, and takes the place of the leader. */
static int thread_exec(void)
{
	pthread_t thread;
	int i;

	for (i = 0; i < 4; i++)
		pthread_create(&thread, NULL, spins, NULL);
	pthread_create(&thread, NULL, becomes, NULL);
	pthread_join(thread, NULL);
	return 1;
}

/* Several of them at once. */
static int threads_exec(void)
{
	pthread_t threads[6];
	int i;

	for (i = 0; i < 6; i++)
		pthread_create(&threads[i], NULL, becomes, NULL);
	/* one may fail while another gets there */
	for (i = 0; i < 6; i++)
		pthread_join(threads[i], NULL);
	return 1;
}

static int thread_exec_without_leader(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, becomes, NULL);
	syscall(SYS_exit, 0);
	return 1;
}

static int itself(void)
{
	return again("plainly");
}

static int itself_often(void)
{
	int i;

	for (i = 0; i < 30; i++) {
		pid_t child = TRY(vfork());

		if (!child) {
			execv(own_path, words_of("bypass", "plainly"));
			_exit(1);
		}
		end_of(child);
	}
	return 0;
}

/* An exec that fails at the last moment, then one that does not. */
static int after_a_failure(void)
{
	int fd = TRY(open(at("open/broken"), O_WRONLY | O_CREAT, 0755));

	TRY(write(fd, "no program", 10));
	close(fd);
	execl(at("open/broken"), "broken", NULL);
	return again("plainly");
}

/* A copy in its own directory, and one that is gone when it runs. */
static int copied(int is_removed)
{
	char path[64], bytes[65536];
	int from = TRY(open("/proc/self/exe", O_RDONLY)), to;
	ssize_t length;

	to = TRY(open(at("open/copy"), O_WRONLY | O_CREAT, 0755));
	while ((length = read(from, bytes, sizeof(bytes))) > 0)
		TRY(write(to, bytes, length));
	close(to);
	from = TRY(open(at("open/copy"), O_PATH));
	if (is_removed)
		TRY(unlink(at("open/copy")));
	snprintf(path, sizeof(path), "/proc/self/fd/%d", from);
	execv(path, words_of("bypass", "plainly"));
	return stopped("execve of a copy");
}

static int copy(void)
{
	return copied(0);
}

static int removed_copy(void)
{
	return copied(1);
}

static int from_memory(void)
{
	char bytes[65536];
	int from = TRY(open("/proc/self/exe", O_RDONLY)), to = TRY(memfd_create("code", 0));
	ssize_t length;
	extern char **environ;

	while ((length = read(from, bytes, sizeof(bytes))) > 0)
		TRY(write(to, bytes, length));
	fexecve(to, words_of("bypass", "plainly"), environ);
	return stopped("fexecve");
}

static int by_linker(void)
{
	execl("/lib64/ld-linux-x86-64.so.2", "ld", CAT, at("secret"), NULL);
	return stopped("the dynamic linker");
}

static int by_script(void)
{
	int fd = TRY(open(at("open/script"), O_WRONLY | O_CREAT, 0755));
	char text[512];

	snprintf(text, sizeof(text), "#!%s\n%s", CAT, at("secret"));
	TRY(write(fd, text, strlen(text)));
	close(fd);
	execl(at("open/script"), "script", at("secret"), NULL);
	return stopped("a script");
}

static int by_symbolic_link(void)
{
	TRY(symlink(CAT, at("open/cat")));
	return cat(at("open/cat"));
}

static int by_hard_link(void)
{
	TRY(link(CAT, at("open/cat")));
	return cat(at("open/cat"));
}

static int by_descriptor(void)
{
	char *const words[] = {"cat", (char *)at("secret"), NULL};
	int fd = TRY(open(CAT, O_PATH));

	syscall(SYS_execveat, fd, "", words, NULL, AT_EMPTY_PATH);
	return stopped("execveat");
}

/* The other user's rights of a program; what only root may read is root's. */
static int set_id(void)
{
	execv(at("set-id"), words_of("bypass", "_as-root"));
	return stopped("a set-id program");
}

static int as_root(void)
{
	return show_file(at("root-only"));
}

static int preloaded(void)
{
	setenv("LD_PRELOAD", at("open/library.so"), 1);
	return again("_loaded");
}

static int audited(void)
{
	setenv("LD_AUDIT", at("open/library.so"), 1);
	return again("_loaded");
}

static int own_library(void)
{
	char bytes[65536];
	int from = TRY(open("/job/bypass.so", O_RDONLY));
	int to = TRY(open(at("open/library.so"), O_WRONLY | O_CREAT, 0755));
	ssize_t length;

	while ((length = read(from, bytes, sizeof(bytes))) > 0)
		TRY(write(to, bytes, length));
	close(to);
	return 0;
}

static int preload(void)
{
	return own_library() ? 1 : preloaded();
}

static int audit(void)
{
	return own_library() ? 1 : audited();
}

/* The library ends the program that loads it. */
static int loaded(void)
{
	errno = ENOEXEC;
	return stopped("loading");
}

static int opened_library(void)
{
	if (own_library())
		return 1;
	errno = EPERM;
	TRY(dlopen(at("open/library.so"), RTLD_NOW) ? 0 : -1);
	return loaded();
}

/* A program whose addresses are predictable and whose mappings are executable. */
static int other_personality(void)
{
	TRY(personality(READ_IMPLIES_EXEC | ADDR_NO_RANDOMIZE | ADDR_COMPAT_LAYOUT));
	return again("plainly");
}

/* Already runs when its artifact is admitted. */
static int waits(void)
{
	await_gate();
	return read_secret();
}

static int waits_in_child(void)
{
	if (!TRY(fork())) {
		await_gate();
		_exit(read_secret());
	}
	wait(NULL);
	return 0;
}

static int waits_to_exec(void)
{
	await_gate();
	return again("plainly");
}

/* Nobody stays long enough to be found: each is the child of the one before. */
static int chain(void)
{
	int is_up = 0, after = 0;

	for (;;) {
		pid_t child = fork();

		if (child > 0)
			_exit(0);
		if (child < 0)
			_exit(stopped("fork"));
		alarm(20);
		if (!is_up++) {
			say_up();
		}
		if (!access(at("open/gate"), F_OK) && after++ > 3)
			_exit(read_secret());
	}
}

static int vfork_chain(void)
{
	int i;

	say_up();
	for (i = 0; access(at("open/gate"), F_OK); i++) {
		pid_t child = vfork();

		if (!child)
			_exit(0);
		end_of(child);
	}
	return in_child(read_secret);
}

/* Each replaces itself at once. */
static int exec_chain(void)
{
	say_up();
	return again("_exec-chain");
}

static int exec_link(void)
{
	if (!access(at("open/gate"), F_OK))
		return read_secret();
	return again("_exec-chain");
}

static void *thread_chain(void *unused)
{
	pthread_attr_t detached;
	pthread_t next;

	if (!access(at("open/gate"), F_OK))
		exit(read_secret());
	pthread_attr_init(&detached);
	pthread_attr_setdetachstate(&detached, PTHREAD_CREATE_DETACHED);
	if (pthread_create(&next, &detached, thread_chain, NULL))
		exit(stopped("a thread"));
	return unused;
}

static int threads(void)
{
	say_up();
	thread_chain(NULL);
	pthread_exit(NULL);
	return 0;
}

const struct trick exec_tricks[] = {
	{"program-undeclared", undeclared},
	{"fork", forks_twice},
	{"double-fork", double_fork},
	{"vfork-exec", vfork_exec},
	{"clone-parent", clone_parent},
	{"clone-without-signal", clone_without_signal},
	{"clone-shared", clone_shared},
	{"thread", in_thread},
	{"thread-without-leader", without_leader},
	{"thread-exec", thread_exec},
	{"threads-exec", threads_exec},
	{"thread-exec-without-leader", thread_exec_without_leader},
	{"exec-itself", itself},
	{"exec-itself-often", itself_often},
	{"exec-after-a-failure", after_a_failure},
	{"exec-copy", copy},
	{"exec-removed-copy", removed_copy},
	{"exec-memory", from_memory},
	{"exec-by-linker", by_linker},
	{"exec-script", by_script},
	{"exec-symbolic-link", by_symbolic_link},
	{"exec-hard-link", by_hard_link},
	{"exec-descriptor", by_descriptor},
	{"set-id-program", set_id},
	{"_as-root", as_root},
	{"preload", preload},
	{"audit-library", audit},
	{"library-opened", opened_library},
	{"_loaded", loaded},
	{"personality", other_personality},
	{"admitted-while-waiting", waits},
	{"admitted-while-child-waits", waits_in_child},
	{"admitted-before-exec", waits_to_exec},
	{"admitted-during-forks", chain},
	{"admitted-during-vforks", vfork_chain},
	{"admitted-during-execs", exec_chain},
	{"_exec-chain", exec_link},
	{"admitted-during-threads", threads},
	{},
};
