/* SPDX-License-Identifier: Apache-2.0 OR MIT */
/*
 * What all tricks share. A trick is a function without arguments that returns 0 when it was done,
 * or what stopped() returns where it was stopped. It tells nothing else: whether it worked is seen
 * by its effect (manifest.toml says which).
 */
#ifndef BYPASS_H
#define BYPASS_H

#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/wait.h>
#include <unistd.h>

struct trick {
	const char *name;
	int (*run)(void);
};

/* One table a family, ended by an empty entry. */
extern const struct trick exec_tricks[], file_tricks[], ipc_tricks[], memory_tricks[],
	network_tricks[], power_tricks[], race_tricks[], ring_tricks[], signal_tricks[],
	trace_tricks[];

/* Where everything is, and a process of others: see stage.rs. */
extern const char *room;
extern pid_t victim;
extern char *victim_secret; /* in its memory */
extern int port;
extern char own_path[]; /* of this program; its main thread may be gone later */

/* ROOM/NAME; good until the eighth call from here. */
const char *at(const char *name);

/* Says what did not work, and why. Never 0. */
int stopped(const char *what);

/* The value of a call, or the end of the trick if that is negative. */
#define TRY(call)                                                                                  \
	({                                                                                         \
		long tried = (long)(call);                                                         \
		if (tried < 0)                                                                     \
			return stopped(#call);                                                     \
		tried;                                                                             \
	})

/* Print what can be read. */
int show(int fd);
int show_file(const char *path);
int show_text(const char *text, size_t length);

/* Whether what was read is worth to be shown: races read what they may again and again. */
int is_secret(const char *text);

/* Runs this program anew, with another trick. */
int again(const char *trick);
char *const *words_of(const char *program, const char *trick);

/* Waits for a child; its status is the trick's. */
int end_of(pid_t child);

/* The numbered descriptor that the helper sends, from 0. */
int from_helper(int number);

/* What goes on around a trick begins when it says that it is up. */
void say_up(void);

/* Waits until the stage is as the trick wants it. */
void await_gate(void);

/* By what the victim's queues and memory are known, to its own user. */
#define KEY (7000 + (key_t)geteuid())
const char *queue_name(void);

/* Another file of this directory may run it. */
int read_secret(void);
int ring_helper_main(void);
int ring_starter_main(char *const *words);

#endif
