// SPDX-License-Identifier: Apache-2.0 OR MIT
/* What is true when it is asked, and not when it is done. All read the secret if they win. */
#include "bypass.h"
#include <pthread.h>
#include <time.h>

/* How long a race lasts that nobody wins. */
#define PATIENCE_NS 1000000000ll

static long long now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1000000000ll + time.tv_nsec;
}

static volatile int is_over;

static void *flips_link(void *unused)
{
	while (!is_over) {
		symlink("file", at("open/next"));
		rename(at("open/next"), at("open/link"));
		symlink("../secret", at("open/next"));
		rename(at("open/next"), at("open/link"));
	}
	return unused;
}

static void *flips_directory(void *unused)
{
	symlink("../shut", at("open/next"));
	while (!is_over)
		syscall(SYS_renameat2, AT_FDCWD, at("open/d"), AT_FDCWD, at("open/next"), 2);
	return unused;
}

static void *flips_names(void *unused)
{
	while (!is_over) {
		rename(at("open/d"), at("open/e"));
		rename(at("open/e"), at("open/d"));
	}
	return unused;
}

/* Reads again and again while another thread does its work. */
static int races(void *(*work)(void *), const char *path, int flags)
{
	char text[128] = "";
	long long end = now() + PATIENCE_NS;
	pthread_t thread;
	int won = 0;

	pthread_create(&thread, NULL, work, NULL);
	while (!won && now() < end) {
		int fd = open(path, flags);

		if (fd < 0)
			continue;
		if (read(fd, text, sizeof(text) - 1) > 0)
			won = is_secret(text);
		close(fd);
	}
	is_over = 1;
	pthread_join(thread, NULL);
	if (won)
		return show_text(text, strlen(text));
	errno = EPERM;
	return stopped("every time");
}

static int link_flips(void)
{
	return races(flips_link, at("open/link"), O_RDONLY);
}

static int directory_flips(void)
{
	return races(flips_directory, at("open/d/secret"), O_RDONLY);
}

/* Thousands of renames while the way there is walked. */
static int rename_storm(void)
{
	return races(flips_names, at("shut/d/secret"), O_RDONLY);
}

/* From below what is renamed all the time. */
static int rename_storm_below(void)
{
	char path[64];
	int directory = TRY(open(at("open/d"), O_PATH | O_DIRECTORY));

	snprintf(path, sizeof(path), "/proc/self/fd/%d/../../secret", directory);
	return races(flips_names, path, O_RDONLY);
}

static char flipping[4096];

static void *flips_text(void *unused)
{
	size_t end = strlen(room);

	while (!is_over) {
		strcpy(flipping + end, "/open/file");
		strcpy(flipping + end, "/secret");
	}
	return unused;
}

/* The very text of the path changes while the kernel reads it. */
static int text_flips(void)
{
	strcpy(flipping, at("open/file"));
	return races(flips_text, flipping, O_RDONLY);
}

static void *flips_inside(void *unused)
{
	while (!is_over) {
		syscall(SYS_renameat2, AT_FDCWD, at("open/d"), AT_FDCWD, at("shut/d"), 2);
		rename(at("shut/d"), at("open/x"));
		rename(at("open/x"), at("shut/d"));
	}
	return unused;
}

static int directory_moves_in(void)
{
	return races(flips_inside, at("open/d/secret"), O_RDONLY);
}

static void *flips_written(void *unused)
{
	while (!is_over) {
		symlink("file", at("open/next"));
		rename(at("open/next"), at("open/link"));
		symlink("../shut/file", at("open/next"));
		rename(at("open/next"), at("open/link"));
	}
	return unused;
}

static int change_races(void)
{
	long long end = now() + PATIENCE_NS;
	pthread_t thread;
	int i;

	pthread_create(&thread, NULL, flips_written, NULL);
	for (i = 0; now() < end; i++)
		chmod(at("open/link"), 0600 + i % 64);
	is_over = 1;
	pthread_join(thread, NULL);
	return 0;
}

static void *takes_back(void *unused)
{
	while (!is_over) {
		int fd = open(at("open/file"), O_RDONLY);

		dup2(fd, 50);
		close(fd);
		fd = open(at("secret"), O_PATH);
		dup2(fd, 50);
		close(fd);
	}
	return unused;
}

/* Another thread puts another file behind the same number. */
static int descriptor_flips(void)
{
	return races(takes_back, "/proc/self/fd/50", O_RDONLY);
}

/* Tries for a second, through all that goes on around it. */
static int stubborn(void)
{
	long long end = now() + 2 * PATIENCE_NS;
	char text[128] = "";

	say_up();
	while (now() < end) {
		int fd = open(at("secret"), O_RDONLY);

		if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0)
			return show_text(text, strlen(text));
		close(fd);
	}
	return stopped("every time");
}

static int stubborn_below(void)
{
	long long end = now() + 2 * PATIENCE_NS;
	char text[128] = "";

	say_up();
	while (now() < end) {
		int fd = open(at("shut/d/secret"), O_RDONLY);

		if (fd >= 0 && read(fd, text, sizeof(text) - 1) > 0)
			return show_text(text, strlen(text));
		close(fd);
	}
	return stopped("every time");
}

/* The same by a new image each time. */
static int stubborn_exec(void)
{
	long long end = now() + 2 * PATIENCE_NS;

	say_up();
	while (now() < end) {
		pid_t child = vfork();

		if (!child) {
			execv(own_path, words_of("bypass", "plainly"));
			_exit(1);
		}
		if (child > 0 && !end_of(child))
			return 0;
	}
	errno = EPERM;
	return stopped("every time");
}

static int stubborn_fork(void)
{
	long long end = now() + 2 * PATIENCE_NS;

	say_up();
	while (now() < end) {
		pid_t child = fork();

		if (!child)
			_exit(read_secret());
		if (child > 0 && !end_of(child))
			return 0;
	}
	errno = EPERM;
	return stopped("every time");
}

/* Labels are made and read at the same time. */
static void *makes_children(void *unused)
{
	while (!is_over) {
		pid_t child = vfork();

		if (!child)
			_exit(0);
		if (child > 0)
			waitpid(child, NULL, 0);
	}
	return unused;
}

static int labels_contend(void)
{
	pthread_t thread;

	pthread_create(&thread, NULL, makes_children, NULL);
	pthread_create(&thread, NULL, makes_children, NULL);
	return races(makes_children, at("secret"), O_RDONLY);
}

/* The same by other processes, which change their whole image. */
static int labels_contend_with_execs(void)
{
	int i, status;
	pid_t children[3];

	for (i = 0; i < 3; i++) {
		children[i] = TRY(fork());
		if (!children[i]) {
			alarm(10);
			for (;;) {
				pid_t child = vfork();

				if (!child) {
					execv(own_path, words_of("bypass", "_nothing"));
					_exit(1);
				}
				waitpid(child, NULL, 0);
			}
		}
	}
	status = races(makes_children, at("secret"), O_RDONLY);
	for (i = 0; i < 3; i++)
		kill(children[i], SIGKILL);
	return status;
}

static int nothing(void)
{
	return 0;
}

const struct trick race_tricks[] = {
	{"link-flips", link_flips},
	{"directory-flips", directory_flips},
	{"rename-storm", rename_storm},
	{"rename-storm-below", rename_storm_below},
	{"path-text-flips", text_flips},
	{"directory-moves-in", directory_moves_in},
	{"change-races", change_races},
	{"descriptor-flips", descriptor_flips},
	{"stubborn", stubborn},
	{"stubborn-below", stubborn_below},
	{"stubborn-exec", stubborn_exec},
	{"stubborn-fork", stubborn_fork},
	{"labels-contend", labels_contend},
	{"labels-contend-execs", labels_contend_with_execs},
	{"_nothing", nothing},
	{},
};
