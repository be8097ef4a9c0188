// SPDX-License-Identifier: Apache-2.0 OR MIT
/* Ways to a service that no rule allows, and sockets that reach past all rules. */
#include "bypass.h"
#include <arpa/inet.h>
#include <linux/if_alg.h>
#include <linux/if_packet.h>
#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <netinet/in.h>
#include <netinet/ip.h>
#include <netinet/ip_icmp.h>
#include <netinet/tcp.h>
#include <netinet/udp.h>
#include <pthread.h>

#ifndef IPPROTO_MPTCP
#define IPPROTO_MPTCP 262
#endif
#ifndef TCP_FASTOPEN_CONNECT
#define TCP_FASTOPEN_CONNECT 30
#endif
#ifndef AF_XDP
#define AF_XDP 44
#endif

static struct sockaddr_in service(void)
{
	struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port)};

	address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	return address;
}

static struct sockaddr_in6 mapped_service(void)
{
	struct sockaddr_in6 address = {.sin6_family = AF_INET6, .sin6_port = htons(port)};

	inet_pton(AF_INET6, "::ffff:127.0.0.1", &address.sin6_addr);
	return address;
}

static int connect_on(int fd)
{
	struct sockaddr_in address = service();

	return connect(fd, (struct sockaddr *)&address, sizeof(address));
}

static int tcp(void)
{
	return TRY(connect_on(TRY(socket(AF_INET, SOCK_STREAM, 0))));
}

static int nonblocking(void)
{
	connect_on(TRY(socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0)));
	return errno == EINPROGRESS || !errno ? 0 : stopped("connect");
}

static int mapped(void)
{
	struct sockaddr_in6 address = mapped_service();
	int fd = TRY(socket(AF_INET6, SOCK_STREAM, 0));

	return TRY(connect(fd, (struct sockaddr *)&address, sizeof(address)));
}

static int udp(void)
{
	struct sockaddr_in address = service();
	int fd = TRY(socket(AF_INET, SOCK_DGRAM, 0));

	return TRY(sendto(fd, "hello", 5, 0, (struct sockaddr *)&address, sizeof(address))) != 5;
}

static int udp_mapped(void)
{
	struct sockaddr_in6 address = mapped_service();
	int fd = TRY(socket(AF_INET6, SOCK_DGRAM, 0));

	return TRY(sendto(fd, "hello", 5, 0, (struct sockaddr *)&address, sizeof(address))) != 5;
}

/* An IPv4 address, on a socket for IPv6. */
static int udp_mixed(void)
{
	struct sockaddr_in address = service();
	int fd = TRY(socket(AF_INET6, SOCK_DGRAM, 0));

	return TRY(sendto(fd, "hello", 5, 0, (struct sockaddr *)&address, sizeof(address))) != 5;
}

/* No family: the kernel takes it for IPv4. */
static int udp_unspecified(void)
{
	struct sockaddr_in address = service();
	int fd = TRY(socket(AF_INET, SOCK_DGRAM, 0));

	address.sin_family = AF_UNSPEC;
	return TRY(sendto(fd, "hello", 5, 0, (struct sockaddr *)&address, sizeof(address))) != 5;
}

static int udp_connected(void)
{
	int fd = TRY(socket(AF_INET, SOCK_DGRAM, 0));

	TRY(connect_on(fd));
	return TRY(send(fd, "hello", 5, 0)) != 5;
}

/* Connected to what is allowed, then to nothing, then there. */
static int reconnected(void)
{
	struct sockaddr_in allowed = service();
	struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
	int fd = TRY(socket(AF_INET, SOCK_DGRAM, 0));

	allowed.sin_port = htons(9);
	TRY(connect(fd, (struct sockaddr *)&allowed, sizeof(allowed)));
	TRY(connect(fd, &nowhere, sizeof(nowhere)));
	TRY(connect_on(fd));
	return TRY(send(fd, "hello", 5, 0)) != 5;
}

/* Several datagrams with one call, of which only the first is allowed. */
static int several(void)
{
	struct sockaddr_in addresses[2] = {service(), service()};
	struct iovec vector = {"hello", 5};
	struct mmsghdr messages[2] = {};
	int i, fd = TRY(socket(AF_INET, SOCK_DGRAM, 0));

	addresses[0].sin_port = htons(9);
	for (i = 0; i < 2; i++) {
		messages[i].msg_hdr.msg_name = &addresses[i];
		messages[i].msg_hdr.msg_namelen = sizeof(addresses[i]);
		messages[i].msg_hdr.msg_iov = &vector;
		messages[i].msg_hdr.msg_iovlen = 1;
	}
	return TRY(sendmmsg(fd, messages, 2, 0)) != 2;
}

static volatile int is_over;

static void *flips_port(void *address)
{
	while (!is_over) {
		((struct sockaddr_in *)address)->sin_port = htons(9);
		((struct sockaddr_in *)address)->sin_port = htons(port);
	}
	return NULL;
}

/* The address changes while the kernel looks at it. */
static int flipped(void)
{
	struct sockaddr_in address = service();
	int i, fd = TRY(socket(AF_INET, SOCK_DGRAM, 0));
	pthread_t thread;

	pthread_create(&thread, NULL, flips_port, &address);
	for (i = 0; i < 20000; i++)
		sendto(fd, "hello", 5, 0, (struct sockaddr *)&address, sizeof(address));
	is_over = 1;
	pthread_join(thread, NULL);
	return 0;
}

static int fast_open(void)
{
	struct sockaddr_in address = service();
	int fd = TRY(socket(AF_INET, SOCK_STREAM, 0));

	return TRY(sendto(fd, "hello", 5, MSG_FASTOPEN, (struct sockaddr *)&address,
			  sizeof(address))) < 0;
}

static int fast_open_later(void)
{
	int one = 1, fd = TRY(socket(AF_INET, SOCK_STREAM, 0));

	TRY(setsockopt(fd, IPPROTO_TCP, TCP_FASTOPEN_CONNECT, &one, sizeof(one)));
	TRY(connect_on(fd));
	return TRY(write(fd, "hello", 5)) != 5;
}

static int multipath(void)
{
	return TRY(connect_on(TRY(socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP))));
}

static int multipath_fast_open(void)
{
	struct sockaddr_in address = service();
	int fd = TRY(socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP));

	return TRY(sendto(fd, "hello", 5, MSG_FASTOPEN, (struct sockaddr *)&address,
			  sizeof(address))) < 0;
}

static int stream_control(void)
{
	return TRY(socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP)) < 0;
}

static int light_datagrams(void)
{
	return TRY(socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE)) < 0;
}

static int pings(void)
{
	struct sockaddr_in address = service();
	struct icmphdr echo = {.type = ICMP_ECHO};
	int fd = TRY(socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP));

	return TRY(sendto(fd, &echo, sizeof(echo), 0, (struct sockaddr *)&address,
			  sizeof(address))) < 0;
}

/* A datagram to the service, with a header made here. */
static int raw(void)
{
	struct {
		struct udphdr head;
		char text[8];
	} packet = {.text = "hello"};
	struct sockaddr_in address = service();
	int fd = TRY(socket(AF_INET, SOCK_RAW, IPPROTO_UDP));

	packet.head.source = packet.head.dest = htons(port);
	packet.head.len = htons(sizeof(packet));
	address.sin_port = 0;
	return TRY(sendto(fd, &packet, sizeof(packet), 0, (struct sockaddr *)&address,
			  sizeof(address))) < 0;
}

static int packets(void)
{
	struct sockaddr_ll lo = {.sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_ALL)};
	int fd = TRY(socket(AF_PACKET, SOCK_DGRAM, htons(ETH_P_ALL)));

	lo.sll_ifindex = if_nametoindex("lo");
	return TRY(bind(fd, (struct sockaddr *)&lo, sizeof(lo)));
}

/* By the family for IPv4, which the kernel corrects. */
static int old_packets(void)
{
	return TRY(socket(AF_INET, SOCK_PACKET, htons(ETH_P_ALL))) < 0;
}

static int routes(void)
{
	struct {
		struct nlmsghdr head;
		struct rtgenmsg message;
	} request = {{sizeof(request), RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, 1, 0}, {AF_UNSPEC}};
	int fd = TRY(socket(AF_NETLINK, SOCK_RAW, NETLINK_ROUTE));

	return TRY(send(fd, &request, sizeof(request), 0)) < 0;
}

static int audit_link(void)
{
	return TRY(socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT)) < 0;
}

static int events(void)
{
	struct sockaddr_nl address = {.nl_family = AF_NETLINK, .nl_groups = 1};
	int fd = TRY(socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT));

	return TRY(bind(fd, (struct sockaddr *)&address, sizeof(address)));
}

static int virtual_machines(void)
{
	return TRY(socket(AF_VSOCK, SOCK_STREAM, 0)) < 0;
}

static int express_data(void)
{
	return TRY(socket(AF_XDP, SOCK_RAW, 0)) < 0;
}

static int algorithms(void)
{
	struct sockaddr_alg sha = {
		.salg_family = AF_ALG, .salg_type = "hash", .salg_name = "sha256"};
	int fd = TRY(socket(AF_ALG, SOCK_SEQPACKET, 0));

	return TRY(bind(fd, (struct sockaddr *)&sha, sizeof(sha)));
}

static int keys(void)
{
	return TRY(socket(AF_KEY, SOCK_RAW, 2)) < 0;
}

static int serves(void)
{
	int fd = TRY(socket(AF_INET, SOCK_STREAM, 0));
	struct sockaddr_in address = service();

	address.sin_port = htons(7979);
	TRY(bind(fd, (struct sockaddr *)&address, sizeof(address)));
	return TRY(listen(fd, 1));
}

static int serves_unspecified(void)
{
	int fd = TRY(socket(AF_INET, SOCK_STREAM, 0));
	struct sockaddr_in address = {.sin_family = AF_UNSPEC, .sin_port = htons(7979)};

	TRY(bind(fd, (struct sockaddr *)&address, sizeof(address)));
	return TRY(listen(fd, 1));
}

/* No bind at all: the kernel gives a port. */
static int serves_unbound(void)
{
	return TRY(listen(TRY(socket(AF_INET, SOCK_STREAM, 0)), 1));
}

/* A socket that connected is made to listen after it was let go. */
static int serves_after_connecting(void)
{
	struct sockaddr nowhere = {.sa_family = AF_UNSPEC};
	int fd = TRY(socket(AF_INET, SOCK_STREAM, 0));

	TRY(connect_on(fd));
	TRY(connect(fd, &nowhere, sizeof(nowhere)));
	return TRY(listen(fd, 1));
}

/* By the last word of a route over another host. */
static int source_route(void)
{
	unsigned char option[8] = {131, 7, 4, 127, 0, 0, 1, 0};
	struct sockaddr_in address = service();
	int fd = TRY(socket(AF_INET, SOCK_DGRAM, 0));

	TRY(setsockopt(fd, IPPROTO_IP, IP_OPTIONS, option, sizeof(option)));
	return TRY(sendto(fd, "hello", 5, 0, (struct sockaddr *)&address, sizeof(address))) != 5;
}

static int inherited_socket(void)
{
	struct sockaddr_in address = service();

	return TRY(sendto(0, "hello", 5, 0, (struct sockaddr *)&address, sizeof(address))) != 5;
}

const struct trick network_tricks[] = {
	{"tcp", tcp},
	{"tcp-without-waiting", nonblocking},
	{"tcp-mapped", mapped},
	{"udp", udp},
	{"udp-mapped", udp_mapped},
	{"udp-mixed", udp_mixed},
	{"udp-unspecified", udp_unspecified},
	{"udp-connected", udp_connected},
	{"udp-reconnected", reconnected},
	{"udp-several", several},
	{"udp-flipped", flipped},
	{"fast-open", fast_open},
	{"fast-open-later", fast_open_later},
	{"multipath", multipath},
	{"multipath-fast-open", multipath_fast_open},
	{"sctp", stream_control},
	{"udp-lite", light_datagrams},
	{"ping", pings},
	{"raw", raw},
	{"packet", packets},
	{"packet-of-old", old_packets},
	{"netlink-route", routes},
	{"netlink-audit", audit_link},
	{"netlink-events", events},
	{"vsock", virtual_machines},
	{"xdp", express_data},
	{"algorithms", algorithms},
	{"key-socket", keys},
	{"serve", serves},
	{"serve-unspecified", serves_unspecified},
	{"serve-unbound", serves_unbound},
	{"serve-after-connecting", serves_after_connecting},
	{"source-route", source_route},
	{"inherited-socket", inherited_socket},
	{},
};
