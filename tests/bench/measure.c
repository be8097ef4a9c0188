// SPDX-License-Identifier: Apache-2.0 OR MIT
/*
 * The measuring program: performs each operation many times and prints its name and the median of
 * what the processor's time stamp counter says. In a guest that counts instructions (vm run
 * --icount) that is the number of guest instructions. Knows nothing of Cartouche: whether it is a
 * subject, and what is attached, is its starter's business (cost.rs), which also makes the files
 * that it opens.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <err.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <x86intrin.h>

/* The same two depths as the figures that ours are compared with; cost.rs makes both files. */
#define SHALLOW "/root/f_x"
#define DEEP "/usr/lib/x86_64-linux-gnu/libfoo0500.so.1"
#define WRITTEN "/srv/bench/written"
#define PROGRAM "/usr/bin/true"
/* Ports of 127.0.0.1, as declared for the subject in cost.rs. */
#define PORT_TCP 7001
#define PORT_UDP 7002
#define PORT_RANGE 7150 /* declared only as a part of a network and a range of ports */

#define ITERATIONS_MAX 400

static int file, written, pair[2], server, client, accepted, datagram, receiver;
static struct sockaddr_in tcp, udp, range;
static char byte;

static int check(int result, const char *what)
{
	if (result < 0)
		err(1, "%s", what);
	return result;
}

static struct sockaddr_in address_of(int port)
{
	return (struct sockaddr_in){
		.sin_family = AF_INET,
		.sin_port = htons(port),
		.sin_addr.s_addr = htonl(INADDR_LOOPBACK),
	};
}

static int bound(int type, struct sockaddr_in *address)
{
	int fd = check(socket(AF_INET, type, 0), "socket"), on = 1;

	check(setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)), "setsockopt");
	check(bind(fd, (void *)address, sizeof(*address)), "bind");
	return fd;
}

static void begin(void)
{
	tcp = address_of(PORT_TCP);
	udp = address_of(PORT_UDP);
	range = address_of(PORT_RANGE);
	file = check(open(SHALLOW, O_RDONLY), SHALLOW);
	written = check(open(WRITTEN, O_WRONLY), WRITTEN);
	check(socketpair(AF_UNIX, SOCK_STREAM, 0, pair), "socketpair");
	server = bound(SOCK_STREAM, &tcp);
	check(listen(server, 8), "listen");
	receiver = bound(SOCK_DGRAM, &udp);
	datagram = check(socket(AF_INET, SOCK_DGRAM, 0), "socket");
}

static void nothing(void)
{
}

static void open_shallow(void)
{
	close(check(open(SHALLOW, O_RDONLY), SHALLOW));
}

static void open_deep(void)
{
	close(check(open(DEEP, O_RDONLY), DEEP));
}

static void stat_deep(void)
{
	struct stat stat_buffer;

	check(stat(DEEP, &stat_buffer), DEEP);
}

static void read_byte(void)
{
	check(pread(file, &byte, 1, 0), "pread");
}

static void write_byte(void)
{
	check(pwrite(written, "x", 1, 0), "pwrite");
}

static void pair_byte(void)
{
	check(write(pair[0], "x", 1), "write");
	check(read(pair[1], &byte, 1), "read");
}

static void connect_udp(void)
{
	check(connect(datagram, (void *)&udp, sizeof(udp)), "connect to an exact endpoint");
}

static void connect_range(void)
{
	check(connect(datagram, (void *)&range, sizeof(range)), "connect into a range");
}

static void disconnect_udp(void)
{
	struct sockaddr nobody = {.sa_family = AF_UNSPEC};

	check(connect(datagram, &nobody, sizeof(nobody)), "disconnect");
}

static void send_to(void)
{
	check(sendto(datagram, "x", 1, 0, (void *)&udp, sizeof(udp)), "sendto");
}

static void send_connected(void)
{
	check(send(datagram, "x", 1, 0), "send");
}

static void receive(void)
{
	check(recv(receiver, &byte, 1, 0), "recv");
}

static void receive_and_disconnect(void)
{
	receive();
	disconnect_udp();
}

static void socket_tcp(void)
{
	close(check(socket(AF_INET, SOCK_STREAM, 0), "socket"));
}

/*
 * Closing resets: connections in TIME_WAIT would make the search for a free port longer each time. One
 * socket more stays open each time: else allocations may fall on the slab allocator's slow path in
 * every round of one run, and in none of another.
 */
static void make_client(void)
{
	const struct linger reset = {.l_onoff = 1};

	check(socket(AF_INET, SOCK_STREAM, 0), "socket");
	client = check(socket(AF_INET, SOCK_STREAM, 0), "socket");
	check(setsockopt(client, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)), "setsockopt");
}

static void connect_tcp(void)
{
	check(connect(client, (void *)&tcp, sizeof(tcp)), "connect");
}

static void close_both(void)
{
	close(client);
	close(accepted);
}

static void accept_and_close(void)
{
	accepted = check(accept(server, NULL, NULL), "accept");
	close_both();
}

static void connect_accept_close(void)
{
	connect_tcp();
	accept_and_close();
}

static void get_flags(void)
{
	check(fcntl(file, F_GETFL), "fcntl");
}

static void bytes_waiting(void)
{
	int count;

	check(ioctl(pair[1], FIONREAD, &count), "ioctl");
}

static void reap(pid_t child, const char *what)
{
	int status;

	check(child, what);
	check(waitpid(child, &status, 0), "waitpid");
	if (status)
		errx(1, "%s: the child failed with wait status %#x", what, status);
}

static void fork_exit(void)
{
	pid_t child = fork();

	if (!child)
		_exit(0);
	reap(child, "fork");
}

static void fork_exec(void)
{
	pid_t child = fork();

	if (!child) {
		execl(PROGRAM, PROGRAM, NULL);
		_exit(127);
	}
	reap(child, PROGRAM);
}

static const struct operation {
	const char *name; /* as in cost.rs */
	int iterations;
	void (*before)(void);
	void (*act)(void); /* what is counted */
	void (*after)(void);
} operations[] = {
	{"open_shallow", 300, nothing, open_shallow, nothing},
	{"open_deep", 300, nothing, open_deep, nothing},
	{"stat", 300, nothing, stat_deep, nothing},
	{"read", 300, nothing, read_byte, nothing},
	{"write", 300, nothing, write_byte, nothing},
	{"fcntl", 300, nothing, get_flags, nothing},
	{"ioctl", 300, nothing, bytes_waiting, nothing},
	{"socketpair", 300, nothing, pair_byte, nothing},
	{"udp_send_connected", 300, connect_udp, send_connected, receive_and_disconnect},
	{"udp_send_addressed", 300, nothing, send_to, receive},
	{"udp_connect", 300, nothing, connect_udp, disconnect_udp},
	{"udp_connect_range", 300, nothing, connect_range, disconnect_udp},
	{"tcp_socket", 300, nothing, socket_tcp, nothing},
	{"tcp_connect", 200, make_client, connect_tcp, accept_and_close},
	{"tcp_cycle", 200, make_client, connect_accept_close, nothing},
	{"fork", 200, nothing, fork_exit, nothing},
	{"fork_exec", 100, nothing, fork_exec, nothing},
};

static int ascending(const void *a, const void *b)
{
	uint64_t left = *(const uint64_t *)a, right = *(const uint64_t *)b;

	return left < right ? -1 : left > right;
}

static uint64_t median(const struct operation *operation)
{
	static uint64_t counts[ITERATIONS_MAX];
	int i;

	for (i = 0; i < operation->iterations; i++) {
		uint64_t start;

		operation->before();
		start = __rdtsc();
		operation->act();
		counts[i] = __rdtsc() - start;
		operation->after();
	}
	qsort(counts, operation->iterations, sizeof(counts[0]), ascending);
	return counts[operation->iterations / 2];
}

int main(void)
{
	const struct operation empty = {"", ITERATIONS_MAX, nothing, nothing, nothing};
	uint64_t overhead;
	size_t i;

	begin();
	overhead = median(&empty);
	for (i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) {
		uint64_t count = median(&operations[i]);

		printf("%s %lld\n", operations[i].name, (long long)(count - overhead));
		fflush(stdout);
	}
	return 0;
}
