// SPDX-License-Identifier: Apache-2.0 OR MIT
/* io_uring: the same acts without system calls of their own. */
#include "bypass.h"
#include <arpa/inet.h>
#include <linux/io_uring.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/prctl.h>

struct ring {
	int fd;
	struct io_uring_params parameters;
	unsigned *sq_tail, *sq_mask, *sq_array, *cq_head, *cq_tail, *cq_mask, *sq_flags;
	struct io_uring_sqe *entries;
	struct io_uring_cqe *results;
};

/* Maps the queues of a ring, whoever has made it. */
static int map_queues(struct ring *ring)
{
	char *queue =
		mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_SHARED, ring->fd, IORING_OFF_SQ_RING);
	TRY(queue == MAP_FAILED ? -1 : 0);
	ring->sq_tail = (unsigned *)(queue + ring->parameters.sq_off.tail);
	ring->sq_mask = (unsigned *)(queue + ring->parameters.sq_off.ring_mask);
	ring->sq_array = (unsigned *)(queue + ring->parameters.sq_off.array);
	ring->sq_flags = (unsigned *)(queue + ring->parameters.sq_off.flags);
	ring->cq_head = (unsigned *)(queue + ring->parameters.cq_off.head);
	ring->cq_tail = (unsigned *)(queue + ring->parameters.cq_off.tail);
	ring->cq_mask = (unsigned *)(queue + ring->parameters.cq_off.ring_mask);
	ring->results = (struct io_uring_cqe *)(queue + ring->parameters.cq_off.cqes);
	ring->entries = mmap(NULL, 8 * sizeof(struct io_uring_sqe), PROT_READ | PROT_WRITE,
			     MAP_SHARED, ring->fd, IORING_OFF_SQES);
	return TRY(ring->entries == MAP_FAILED ? -1 : 0);
}

static int set_up(struct ring *ring, unsigned flags)
{
	ring->parameters = (struct io_uring_params){.flags = flags, .sq_thread_idle = 20000};
	ring->fd = TRY(syscall(SYS_io_uring_setup, 8, &ring->parameters));
	return map_queues(ring);
}

static void queue(struct ring *ring, const struct io_uring_sqe *entry)
{
	unsigned tail = *ring->sq_tail, index = tail & *ring->sq_mask;

	ring->entries[index] = *entry;
	ring->sq_array[index] = index;
	__atomic_store_n(ring->sq_tail, tail + 1, __ATOMIC_RELEASE);
}

/* What came of the oldest one; -1 and errno if it failed. */
static int result(struct ring *ring)
{
	unsigned flags = IORING_ENTER_GETEVENTS, head = *ring->cq_head;
	int value;

	if (ring->parameters.flags & IORING_SETUP_SQPOLL)
		flags |= IORING_ENTER_SQ_WAKEUP;
	while (head == __atomic_load_n(ring->cq_tail, __ATOMIC_ACQUIRE))
		if (syscall(SYS_io_uring_enter, ring->fd, 1, 1, flags, NULL, 0) < 0 &&
		    errno != EINTR)
			return -1;
	value = ring->results[head & *ring->cq_mask].res;
	__atomic_store_n(ring->cq_head, head + 1, __ATOMIC_RELEASE);
	if (value >= 0)
		return value;
	errno = -value;
	return -1;
}

static int act(struct ring *ring, struct io_uring_sqe entry)
{
	queue(ring, &entry);
	return result(ring);
}

static int opens(unsigned flags, unsigned char how)
{
	struct ring ring;
	struct io_uring_sqe entry = {
		.opcode = IORING_OP_OPENAT, .flags = how, .fd = AT_FDCWD, .len = 0};

	if (set_up(&ring, flags))
		return 1;
	entry.addr = (uintptr_t)at("secret");
	return show(TRY(act(&ring, entry)));
}

static int opens_inline(void)
{
	return opens(0, 0);
}

static int opens_in_worker(void)
{
	return opens(0, IOSQE_ASYNC);
}

static int opens_by_thread(void)
{
	return opens(IORING_SETUP_SQPOLL, 0);
}

static int opens_by_thread_in_worker(void)
{
	return opens(IORING_SETUP_SQPOLL, IOSQE_ASYNC);
}

static struct sockaddr_in service(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return address;
}

static int connects(unsigned flags, unsigned char how)
{
	struct sockaddr_in address = service();
	struct io_uring_sqe entry = {.opcode = IORING_OP_CONNECT, .flags = how};
	struct ring ring;

	if (set_up(&ring, flags))
		return 1;
	entry.fd = TRY(socket(AF_INET, SOCK_STREAM, 0));
	entry.addr = (uintptr_t)&address;
	entry.off = sizeof(address);
	return TRY(act(&ring, entry));
}

static int connects_inline(void)
{
	return connects(0, 0);
}

static int connects_in_worker(void)
{
	return connects(0, IOSQE_ASYNC);
}

static int connects_by_thread(void)
{
	return connects(IORING_SETUP_SQPOLL, 0);
}

static int sends(void)
{
	struct sockaddr_in address = service();
	struct iovec vector = {"hello", 5};
	struct msghdr message = {.msg_name = &address,
				 .msg_namelen = sizeof(address),
				 .msg_iov = &vector,
				 .msg_iovlen = 1};
	struct io_uring_sqe entry = {.opcode = IORING_OP_SENDMSG, .len = 1};
	struct ring ring;

	if (set_up(&ring, IORING_SETUP_SQPOLL))
		return 1;
	entry.fd = TRY(socket(AF_INET, SOCK_DGRAM, 0));
	entry.addr = (uintptr_t)&message;
	return TRY(act(&ring, entry)) < 0;
}

static int makes_sockets(void)
{
	struct io_uring_sqe entry = {.opcode = 45 /* IORING_OP_SOCKET */, .fd = AF_PACKET};
	struct ring ring;

	if (set_up(&ring, 0))
		return 1;
	entry.off = SOCK_RAW;
	entry.len = 0;
	return TRY(act(&ring, entry)) < 0;
}

static int renames(void)
{
	struct io_uring_sqe entry = {.opcode = IORING_OP_RENAMEAT, .fd = AT_FDCWD};
	struct ring ring;

	if (set_up(&ring, 0))
		return 1;
	entry.addr = (uintptr_t)at("secret");
	entry.off = (uintptr_t)at("open/secret");
	entry.len = AT_FDCWD;
	TRY(act(&ring, entry));
	return show_file(at("open/secret"));
}

/* Bound with a descriptor of its own kind, which no table of files holds. */
static int opens_fixed(void)
{
	static int none[4] = {-1, -1, -1, -1};
	static char text[128];
	struct io_uring_sqe entry = {.opcode = IORING_OP_OPENAT, .fd = AT_FDCWD, .file_index = 1};
	struct ring ring;

	if (set_up(&ring, IORING_SETUP_SQPOLL))
		return 1;
	TRY(syscall(SYS_io_uring_register, ring.fd, IORING_REGISTER_FILES, none, 4));
	entry.addr = (uintptr_t)at("secret");
	TRY(act(&ring, entry));
	entry = (struct io_uring_sqe){
		.opcode = IORING_OP_READ, .flags = IOSQE_FIXED_FILE, .fd = 0, .len = 127};
	entry.addr = (uintptr_t)text;
	TRY(act(&ring, entry));
	return show_text(text, strlen(text));
}

/* Takes a descriptor by a message on the helper's socket. */
static int receives(void)
{
	char byte, control[CMSG_SPACE(sizeof(int))];
	struct iovec vector = {&byte, 1};
	struct msghdr message = {.msg_iov = &vector,
				 .msg_iovlen = 1,
				 .msg_control = control,
				 .msg_controllen = sizeof(control)};
	struct io_uring_sqe entry = {.opcode = IORING_OP_RECVMSG, .fd = 0, .len = 1};
	struct ring ring;
	int fd;

	if (set_up(&ring, 0))
		return 1;
	entry.addr = (uintptr_t)&message;
	TRY(act(&ring, entry));
	errno = EBADF;
	if (!CMSG_FIRSTHDR(&message) || CMSG_FIRSTHDR(&message)->cmsg_len != CMSG_LEN(sizeof(int)))
		return stopped("the message");
	memcpy(&fd, CMSG_DATA(CMSG_FIRSTHDR(&message)), sizeof(fd));
	return show(fd);
}

/* Work of the old image is still queued when the new one begins. */
static int queued_at_exec(void)
{
	struct io_uring_sqe entry = {
		.opcode = IORING_OP_OPENAT, .flags = IOSQE_ASYNC, .fd = AT_FDCWD};
	struct ring ring;
	int i;

	if (set_up(&ring, 0))
		return 1;
	entry.addr = (uintptr_t)at("secret");
	for (i = 0; i < 8; i++)
		queue(&ring, &entry);
	TRY(syscall(SYS_io_uring_enter, ring.fd, 8, 0, 0, NULL, 0));
	return again("plainly");
}

/* IORING_OP_MSG_RING with IORING_MSG_SEND_FD, of 6.0: puts the first registered file of one ring
 * into the first place of another's. */
static int send_file(struct ring *from, int to)
{
	struct io_uring_sqe entry = {.opcode = 40, .fd = to, .addr = 1, .file_index = 1};

	return act(from, entry);
}

static int register_one(struct ring *ring, int file)
{
	return syscall(SYS_io_uring_register, ring->fd, IORING_REGISTER_FILES, &file, 1);
}

static int read_registered(struct ring *ring)
{
	static char text[128];
	struct io_uring_sqe entry = {
		.opcode = IORING_OP_READ, .flags = IOSQE_FIXED_FILE, .fd = 0, .len = 127};

	entry.addr = (uintptr_t)text;
	TRY(act(ring, entry));
	return show_text(text, strlen(text));
}

/* From one ring to another of its own: no message, no hook. */
static int sent_to_ring(void)
{
	struct ring from, to;

	if (set_up(&from, 0) || set_up(&to, 0))
		return 1;
	TRY(register_one(&from, TRY(from_helper(0))));
	TRY(register_one(&to, -1));
	TRY(send_file(&from, to.fd));
	result(&to);
	return read_registered(&to);
}

/* What a starter outside and a trick have in common, and where the starter has it. */
#define SHARED ((char *)0x200000000ul)
#define SHARED_SIZE 4096
#define PARAMETERS 2048
#define RING_FD 10
#define SHARED_FD 11

/*
 * Starts a program with a ring, of which the thread is the starter's and has the secret registered,
 * and with memory that this thread can read into.
 */
int ring_starter_main(char *const *words)
{
	int memory = memfd_create("shared", 0);
	struct ring ring;
	pid_t child;

	if (set_up(&ring, IORING_SETUP_SQPOLL))
		return 1;
	TRY(register_one(&ring, TRY(open(at("secret"), O_RDONLY))));
	TRY(ftruncate(memory, SHARED_SIZE));
	TRY(mmap(SHARED, SHARED_SIZE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED_NOREPLACE,
		 memory, 0) == SHARED
		    ? 0
		    : -1);
	memcpy(SHARED + PARAMETERS, &ring.parameters, sizeof(ring.parameters));
	TRY(dup2(ring.fd, RING_FD));
	TRY(dup2(memory, SHARED_FD));
	child = TRY(fork());
	if (!child) {
		execv(words[0], words);
		_exit(stopped("the program"));
	}
	return end_of(child);
}

static int inherited(void)
{
	struct ring ring = {.fd = RING_FD};
	struct io_uring_sqe entry = {
		.opcode = IORING_OP_READ, .flags = IOSQE_FIXED_FILE, .fd = 0, .len = 127};

	TRY(pread(SHARED_FD, &ring.parameters, sizeof(ring.parameters), PARAMETERS));
	if (map_queues(&ring))
		return 1;
	entry.addr = (uintptr_t)SHARED;
	TRY(act(&ring, entry));
	return show(SHARED_FD);
}

/* A helper outside takes a ring from the process that names it, and puts the secret into it. */
int ring_helper_main(void)
{
	int words[2], taken;
	struct ring ring;

	if (set_up(&ring, 0))
		return 1;
	TRY(register_one(&ring, TRY(open(at("secret"), O_RDONLY))));
	while (read(0, words, sizeof(words)) == sizeof(words)) {
		taken = TRY(syscall(SYS_pidfd_open, words[0], 0));
		taken = TRY(syscall(SYS_pidfd_getfd, taken, words[1], 0));
		TRY(send_file(&ring, taken));
		TRY(write(0, "x", 1));
	}
	return 0;
}

static int sent_by_helper(void)
{
	struct ring ring;
	int words[2];
	char byte;

	if (set_up(&ring, 0))
		return 1;
	TRY(register_one(&ring, -1));
	words[0] = getpid();
	words[1] = ring.fd;
	TRY(write(0, words, sizeof(words)));
	TRY(read(0, &byte, 1));
	result(&ring);
	return read_registered(&ring);
}

/* An address for lo, as rtnetlink(7) has it. */
struct address_request {
	struct nlmsghdr head;
	struct ifaddrmsg address;
	struct rtattr local;
	unsigned value;
};

/*
 * A request that waits for another one keeps the credentials of the moment in which it was made,
 * and is carried out by the task itself, which has others by then.
 */
static int asks_with_old_credentials(void)
{
	struct sockaddr_nl kernel = {.nl_family = AF_NETLINK};
	struct address_request request = {
		.head = {.nlmsg_len = sizeof(request),
			 .nlmsg_type = RTM_NEWADDR,
			 .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE},
		.address = {.ifa_family = AF_INET, .ifa_prefixlen = 32, .ifa_index = 1},
		.local = {.rta_len = RTA_LENGTH(4), .rta_type = IFA_LOCAL},
		.value = htonl(0x7f636172),
	};
	struct iovec vector = {&request, sizeof(request)};
	struct msghdr message = {
		.msg_name = &kernel,
		.msg_namelen = sizeof(kernel),
		.msg_iov = &vector,
		.msg_iovlen = 1,
	};
	struct io_uring_sqe wait = {.opcode = IORING_OP_POLL_ADD,
				    .flags = IOSQE_ASYNC | IOSQE_IO_LINK,
				    .poll32_events = POLLIN};
	struct io_uring_sqe send = {.opcode = IORING_OP_SENDMSG, .len = 1};
	struct {
		struct nlmsghdr head;
		struct nlmsgerr error;
	} answer = {};
	struct ring ring;
	int ends[2];

	send.fd = TRY(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));
	send.addr = (uintptr_t)&message;
	TRY(pipe(ends));
	wait.fd = ends[0];
	if (set_up(&ring, 0))
		return 1;
	queue(&ring, &wait);
	queue(&ring, &send);
	TRY(syscall(SYS_io_uring_enter, ring.fd, 2, 0, 0, NULL, 0));
	/* a worker waits for the pipe by now, or will */
	usleep(300000);
	/* needs no privilege, and makes new credentials */
	TRY(prctl(PR_SET_KEEPCAPS, 1));
	TRY(write(ends[1], "x", 1));
	TRY(result(&ring));
	TRY(result(&ring));
	TRY(recv(send.fd, &answer, sizeof(answer), 0));
	errno = -answer.error.error;
	return TRY(errno ? -1 : 0);
}

const struct trick ring_tricks[] = {
	{"ring-open", opens_inline},
	{"ring-open-in-worker", opens_in_worker},
	{"ring-open-by-thread", opens_by_thread},
	{"ring-open-by-thread-in-worker", opens_by_thread_in_worker},
	{"ring-open-fixed", opens_fixed},
	{"ring-connect", connects_inline},
	{"ring-connect-in-worker", connects_in_worker},
	{"ring-connect-by-thread", connects_by_thread},
	{"ring-send", sends},
	{"ring-socket", makes_sockets},
	{"ring-rename", renames},
	{"ring-receive", receives},
	{"ring-queued-at-exec", queued_at_exec},
	{"ring-sent-to-ring", sent_to_ring},
	{"ring-inherited", inherited},
	{"ring-sent-by-helper", sent_by_helper},
	{"ring-old-credentials", asks_with_old_credentials},
	{},
};
