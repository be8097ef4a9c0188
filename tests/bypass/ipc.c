// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Sockets, queues and memory of others, and descriptors from them. */
#include "bypass.h"
#include <mqueue.h>
#include <stddef.h>
#include <sys/ipc.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/un.h>

static int shared_memory(void)
{
	int segment = TRY(shmget(KEY, 0, 0));
	char *text = (char *)TRY(shmat(segment, NULL, SHM_RDONLY));

	return show_text(text, strnlen(text, 128));
}

static int semaphore(void)
{
	int set = TRY(semget(KEY, 0, 0));
	struct sembuf up = {0, 1, 0};

	return TRY(semop(set, &up, 1));
}

static int message_queue(void)
{
	struct {
		long type;
		char text[128];
	} message;
	int queue = TRY(msgget(KEY, 0));

	TRY(msgrcv(queue, &message, sizeof(message.text), 0, IPC_NOWAIT));
	return show_text(message.text, strnlen(message.text, 128));
}

static int posix_queue(void)
{
	char text[8192];
	int queue = TRY(mq_open(queue_name(), O_RDONLY | O_NONBLOCK));
	ssize_t length = TRY(mq_receive(queue, text, sizeof(text), NULL));

	return show_text(text, length);
}

static int remove_queue(void)
{
	return TRY(mq_unlink(queue_name()));
}

static socklen_t address_of(const char *name, struct sockaddr_un *address)
{
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	strcpy(address->sun_path, name);
	if (name[0] == '@')
		address->sun_path[0] = 0;
	return offsetof(struct sockaddr_un, sun_path) + strlen(name);
}

static int connect_to(const char *name, int kind)
{
	struct sockaddr_un address;
	socklen_t length = address_of(name, &address);
	int fd = TRY(socket(AF_UNIX, kind, 0));

	TRY(connect(fd, (struct sockaddr *)&address, length));
	return TRY(send(fd, "hello", 5, MSG_NOSIGNAL)) != 5;
}

static int by_path(void)
{
	return connect_to(at("stream"), SOCK_STREAM);
}

static int by_abstract_name(void)
{
	char name[32];

	snprintf(name, sizeof(name), "@bypass-%d", port);
	return connect_to(name, SOCK_STREAM);
}

static int by_datagram(void)
{
	struct sockaddr_un address;
	socklen_t length = address_of(at("datagram"), &address);
	int fd = TRY(socket(AF_UNIX, SOCK_DGRAM, 0));

	return TRY(sendto(fd, "hello", 5, 0, (struct sockaddr *)&address, length)) != 5;
}

static int by_connected_datagram(void)
{
	return connect_to(at("datagram"), SOCK_DGRAM);
}

/* What was opened as a path can be a socket's. */
static int by_descriptor(void)
{
	char name[64];
	int fd = TRY(open(at("stream"), O_PATH));

	snprintf(name, sizeof(name), "/proc/self/fd/%d", fd);
	return connect_to(name, SOCK_STREAM);
}

/* A name in its own directory that leads there. */
static int by_link(void)
{
	TRY(symlink(at("stream"), at("open/socket")));
	return connect_to(at("open/socket"), SOCK_STREAM);
}

static int takes_a_name(void)
{
	struct sockaddr_un address;
	socklen_t length = address_of("@bypass-service", &address);
	int fd = TRY(socket(AF_UNIX, SOCK_STREAM, 0));

	TRY(bind(fd, (struct sockaddr *)&address, length));
	return TRY(listen(fd, 1));
}

static int given_file(void)
{
	return show(TRY(from_helper(0)));
}

static int given_directory(void)
{
	int directory = TRY(from_helper(1));

	return show(TRY(openat(directory, "secret", O_RDONLY)));
}

/* The same after a change of directory, where no descriptor is used. */
static int given_working_directory(void)
{
	TRY(fchdir(TRY(from_helper(1))));
	return show_file("secret");
}

static int given_connection(void)
{
	return TRY(send(TRY(from_helper(2)), "hello", 5, MSG_NOSIGNAL)) != 5;
}

static int given_unix_connection(void)
{
	return TRY(send(TRY(from_helper(3)), "hello", 5, MSG_NOSIGNAL)) != 5;
}

/* Looked at before it is taken, again and again. */
static int peeked(void)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec vector = {&byte, 1};
	struct msghdr message = {.msg_iov = &vector, .msg_iovlen = 1};
	int fd;

	message.msg_control = control;
	message.msg_controllen = sizeof(control);
	TRY(recvmsg(0, &message, MSG_PEEK));
	if (!CMSG_FIRSTHDR(&message) || CMSG_FIRSTHDR(&message)->cmsg_type != SCM_RIGHTS) {
		errno = EBADF;
		return stopped("peeking");
	}
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return show(fd);
}

/* What it was started with. */
static int inherited(void)
{
	return show(0);
}

static int inherited_again(void)
{
	return show_file("/proc/self/fd/0");
}

const struct trick ipc_tricks[] = {
	{"shared-memory", shared_memory},
	{"semaphore", semaphore},
	{"message-queue", message_queue},
	{"posix-queue", posix_queue},
	{"posix-queue-removed", remove_queue},
	{"unix-by-path", by_path},
	{"unix-by-name", by_abstract_name},
	{"unix-datagram", by_datagram},
	{"unix-connected-datagram", by_connected_datagram},
	{"unix-by-descriptor", by_descriptor},
	{"unix-by-link", by_link},
	{"unix-takes-name", takes_a_name},
	{"given-file", given_file},
	{"given-directory", given_directory},
	{"given-working-directory", given_working_directory},
	{"given-connection", given_connection},
	{"given-unix-connection", given_unix_connection},
	{"given-and-peeked", peeked},
	{"inherited", inherited},
	{"inherited-again", inherited_again},
	{},
};
