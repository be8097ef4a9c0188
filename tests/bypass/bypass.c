// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * The program that tries to get past an envelope: one trick a run. Without arguments it lists all
 * tricks that it knows. Knows nothing of Cartouche.
 */
#include "bypass.h"
#include <mqueue.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/resource.h>
#include <sys/sem.h>
#include <sys/shm.h>

/* A trick that takes longer hangs: the kernel ends the process. */
#define PATIENCE 30

const char *room;
pid_t victim;
char *victim_secret;
int port;
char own_path[4096];

static const char *victim_number, *victim_address, *port_number;

static const struct trick *const families[] = {
	exec_tricks,  file_tricks, ipc_tricks,	memory_tricks, network_tricks,
	power_tricks, race_tricks, ring_tricks, signal_tricks, trace_tricks,
};

const char *at(const char *name)
{
	static __thread char paths[8][4096];
	static __thread unsigned next;
	char *path = paths[next++ % 8];

	snprintf(path, sizeof(paths[0]), "%s/%s", room, name);
	return path;
}

int stopped(const char *what)
{
	printf("%s: %.48s\n", strerrorname_np(errno), what);
	fflush(stdout);
	return 1;
}

int show_text(const char *text, size_t length)
{
	printf("%.*s\n", (int)length, text);
	fflush(stdout);
	return 0;
}

int show(int fd)
{
	char text[4096];
	ssize_t length = TRY(read(fd, text, sizeof(text)));

	return show_text(text, length);
}

int show_file(const char *path)
{
	int fd = TRY(open(path, O_RDONLY | O_NONBLOCK));
	int status = show(fd);

	close(fd);
	return status;
}

int read_secret(void)
{
	return show_file(at("secret"));
}

int is_secret(const char *text)
{
	return !strncmp(text, "token-", 6);
}

char *const *words_of(const char *program, const char *trick)
{
	static const char *words[7];

	words[0] = program;
	words[1] = trick;
	words[2] = room;
	words[3] = victim_number;
	words[4] = victim_address;
	words[5] = port_number;
	return (char *const *)words;
}

int again(const char *trick)
{
	execv(own_path, words_of("bypass", trick));
	return stopped("execve of itself");
}

int end_of(pid_t child)
{
	int status;

	TRY(waitpid(child, &status, __WALL));
	return !WIFEXITED(status) || WEXITSTATUS(status);
}

int from_helper(int number)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec vector = {&byte, 1};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
	struct cmsghdr *head;
	int fd = -1;

	do {
		message.msg_control = control;
		message.msg_controllen = sizeof(control);
		if (recvmsg(0, &message, 0) < 0)
			return -1;
	} while (number--);
	head = CMSG_FIRSTHDR(&message);
	if (head && head->cmsg_len == CMSG_LEN(sizeof(int)))
		memcpy(&fd, CMSG_DATA(head), sizeof(fd));
	else
		errno = EBADF; /* the message came without it */
	return fd;
}

void say_up(void)
{
	puts("up");
	fflush(stdout);
}

void await_gate(void)
{
	say_up();
	while (access(at("open/gate"), F_OK))
		usleep(1000);
}

const char *queue_name(void)
{
	static char name[32];

	snprintf(name, sizeof(name), "/bypass-%d", geteuid());
	return name;
}

/* What a victim that was killed has left. */
static void forget_queues(void)
{
	shmctl(shmget(KEY, 0, 0), IPC_RMID, NULL);
	msgctl(msgget(KEY, 0), IPC_RMID, NULL);
	semctl(semget(KEY, 0, 0), 0, IPC_RMID);
	mq_unlink(queue_name());
}

/* One message in each, whoever has taken the last one or removed the queue. */
static void fill_queues(const char *secret)
{
	struct {
		long type;
		char text[128];
	} message = {1, ""};
	struct mq_attr attributes = {.mq_maxmsg = 1, .mq_msgsize = 128};
	struct msqid_ds state;
	int queue = msgget(KEY, IPC_CREAT | 0666);

	strcpy(message.text, secret);
	if (!msgctl(queue, IPC_STAT, &state) && !state.msg_qnum)
		msgsnd(queue, &message, sizeof(message.text), 0);
	queue = mq_open(queue_name(), O_RDWR | O_CREAT | O_NONBLOCK, 0666, &attributes);
	mq_send(queue, secret, strlen(secret), 0);
	close(queue);
}

/* The process of others: has the secret wherever one process can have something. */
static int victim_main(void)
{
	static char secret[128];
	char question;
	int fd = open(at("secret"), O_RDONLY);
	char *shared;

	if (fd < 0 || dup2(fd, 9) < 0 || read(fd, secret, sizeof(secret) - 1) < 0)
		return stopped("the secret");
	if (setenv("SECRET", secret, 1) || chdir(room))
		return stopped("a place");
	forget_queues();
	shared = shmat(shmget(KEY, 4096, IPC_CREAT | 0666), NULL, 0);
	strcpy(shared, secret);
	semget(KEY, 1, IPC_CREAT | 0666);
	fill_queues(secret);
	setpgid(0, 0);
	printf("%p\n", secret);
	fflush(stdout);
	while (read(0, &question, 1) == 1) {
		int null = open("/dev/null", O_RDONLY);

		fill_queues(secret);
		puts(null >= 0 && is_secret(secret) && !getpriority(PRIO_PROCESS, 0) ? "well"
										     : "sick");
		fflush(stdout);
		close(null);
	}
	return 0;
}

static int run(const char *name)
{
	size_t family;
	const struct trick *trick;

	for (family = 0; family < sizeof(families) / sizeof(families[0]); family++)
		for (trick = families[family]; trick->name; trick++)
			if (!strcmp(trick->name, name))
				return trick->run();
	fprintf(stderr, "bypass: no trick %s\n", name);
	return 2;
}

static int list(void)
{
	size_t family;
	const struct trick *trick;

	for (family = 0; family < sizeof(families) / sizeof(families[0]); family++)
		for (trick = families[family]; trick->name; trick++)
			if (trick->name[0] != '_')
				puts(trick->name);
	return 0;
}

int main(int count, char **words)
{
	int status;

	if (count < 3)
		return list();
	room = words[2];
	if (!strcmp(words[1], "victim"))
		return victim_main();
	if (!strcmp(words[1], "ring-helper"))
		return ring_helper_main();
	if (!strcmp(words[1], "ring-starter") && count > 3)
		return ring_starter_main(words + 3);
	if (count < 6)
		return 2;
	victim_number = words[3];
	victim_address = words[4];
	port_number = words[5];
	victim = atoi(victim_number);
	victim_secret = (char *)strtoul(victim_address, NULL, 16);
	port = atoi(port_number);
	if (readlink("/proc/self/exe", own_path, sizeof(own_path) - 1) < 0)
		return 2;
	alarm(PATIENCE);
	status = run(words[1]);
	if (!status)
		puts("done");
	fflush(stdout);
	return status;
}
