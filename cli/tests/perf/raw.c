/*
 * What the hosts can do without a protocol: plain multicasts in turn, WINDOW at a time, without any order, loss recovery or
 * delivery.
 *
 *     raw HOST HOSTS SENDERS SIZE WINDOW START_NS SECONDS
 *
 * One of these on each of 10.77.0.1 to 10.77.0.HOSTS. A token goes round by unicast. Who gets it has read what was sent
 * before, passes it on (the accelerated ring), and multicasts WINDOW datagrams of SIZE bytes if it is among the first SENDERS
 * hosts: as few calls as segmentation offload allows, read with receive offload. From START_NS of the monotonic clock on,
 * what was received and sent here in SECONDS, and the times that the token came, are counted and printed as one JSON object.
 * Ends with 1 if the token got lost: it is sent once.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/udp.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { DATA_PORT = 5410, TOKEN_PORT, LONGEST = 65000, SEGMENTS = 64, BUFFER = 8 << 20 };

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000000ull + (uint64_t)t.tv_nsec;
}

static void must(int result, const char *what)
{
	if (result >= 0)
		return;
	perror(what);
	exit(1);
}

static struct sockaddr_in address(uint32_t host, uint16_t port)
{
	return (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(host) };
}

static int opened(struct sockaddr_in at)
{
	int one = 1, large = BUFFER, opened = socket(AF_INET, SOCK_DGRAM, 0);
	must(opened, "socket");
	must(setsockopt(opened, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one), "SO_REUSEADDR");
	must(setsockopt(opened, SOL_SOCKET, SO_RCVBUFFORCE, &large, sizeof large), "SO_RCVBUFFORCE");
	must(setsockopt(opened, SOL_SOCKET, SO_SNDBUFFORCE, &large, sizeof large), "SO_SNDBUFFORCE");
	must(bind(opened, (struct sockaddr *)&at, sizeof at), "bind");
	return opened;
}

/* How many datagrams were read; 0 if there are none. */
static uint64_t read_some(int socket)
{
	static char buffer[1 << 16];
	union {
		struct cmsghdr aligned;
		char bytes[CMSG_SPACE(sizeof(int))];
	} control;
	struct iovec vector = { buffer, sizeof buffer };
	struct msghdr header = { .msg_iov = &vector, .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control };
	ssize_t length = recvmsg(socket, &header, MSG_DONTWAIT);
	int each = 0;

	if (length <= 0)
		return 0;
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&header); c; c = CMSG_NXTHDR(&header, c))
		if (c->cmsg_level == SOL_UDP && c->cmsg_type == UDP_GRO)
			memcpy(&each, CMSG_DATA(c), sizeof each);
	return each ? (uint64_t)((length + each - 1) / each) : 1;
}

static void send_window(int socket, struct sockaddr_in *to, size_t size, size_t window)
{
	static char bytes[1 << 17];
	size_t most = LONGEST / size;

	most = most > SEGMENTS ? SEGMENTS : most < 1 ? 1 : most;
	for (size_t sent = 0; sent < window;) {
		size_t count = window - sent < most ? window - sent : most;
		struct iovec vector = { bytes, size * count };
		union {
			struct cmsghdr aligned;
			char bytes[CMSG_SPACE(sizeof(uint16_t))];
		} control = { 0 };
		struct msghdr header = { .msg_name = to, .msg_namelen = sizeof *to, .msg_iov = &vector, .msg_iovlen = 1 };
		if (count > 1) {
			uint16_t segment = (uint16_t)size;
			header.msg_control = &control;
			header.msg_controllen = sizeof control;
			struct cmsghdr *c = CMSG_FIRSTHDR(&header);
			c->cmsg_level = SOL_UDP;
			c->cmsg_type = UDP_SEGMENT;
			c->cmsg_len = CMSG_LEN(sizeof segment);
			memcpy(CMSG_DATA(c), &segment, sizeof segment);
		}
		if (sendmsg(socket, &header, 0) >= 0)
			sent += count;
		else if (errno != ENOBUFS && errno != EAGAIN)
			must(-1, "sendmsg");
	}
}

int main(int argc, char **argv)
{
	if (argc != 8) {
		fprintf(stderr, "raw: wrong usage\n");
		return 2;
	}
	uint32_t host = (uint32_t)atoi(argv[1]), hosts = (uint32_t)atoi(argv[2]), first = 0x0a4d0000;
	int sends = host <= (uint32_t)atoi(argv[3]);
	size_t size = strtoull(argv[4], NULL, 10), window = strtoull(argv[5], NULL, 10);
	uint64_t start = strtoull(argv[6], NULL, 10), end = start + (uint64_t)(atof(argv[7]) * 1e9);
	struct sockaddr_in home = address(first + host, 0), next = address(first + host % hosts + 1, TOKEN_PORT);
	struct sockaddr_in group = address(0xefc04d09, DATA_PORT);
	struct ip_mreqn membership = { group.sin_addr, home.sin_addr, 0 };
	int data = opened(group), tokens = opened(address(first + host, TOKEN_PORT)), outgoing = opened(home);
	int one = 1, no = 0;

	must(setsockopt(data, IPPROTO_IP, IP_ADD_MEMBERSHIP, &membership, sizeof membership), "IP_ADD_MEMBERSHIP");
	must(setsockopt(data, SOL_UDP, UDP_GRO, &one, sizeof one), "UDP_GRO");
	must(setsockopt(outgoing, IPPROTO_IP, IP_MULTICAST_IF, &membership, sizeof membership), "IP_MULTICAST_IF");
	must(setsockopt(outgoing, IPPROTO_IP, IP_MULTICAST_LOOP, &no, sizeof no), "IP_MULTICAST_LOOP");

	char token[70] = { 0 };
	uint64_t received = 0, sent = 0, rotations = 0, came = 0;
	int originated = host != 1;
	for (uint64_t t; (t = now()) < end;) {
		int counts = t >= start;
		for (uint64_t some; (some = read_some(data));)
			received += counts ? some : 0;
		/* The others are there by then. */
		int starts = !originated && t + 100000000 > start;
		if (starts || recv(tokens, token, sizeof token, MSG_DONTWAIT) > 0) {
			originated = 1;
			came = t;
			rotations += (uint64_t)counts;
			must((int)sendto(outgoing, token, sizeof token, 0, (struct sockaddr *)&next, sizeof next), "sendto");
			if (sends) {
				send_window(outgoing, &group, size, window);
				sent += counts ? window : 0;
			}
		} else {
			struct pollfd events[] = { { data, POLLIN, 0 }, { tokens, POLLIN, 0 } };
			poll(events, 2, 10);
		}
	}
	if (end > came + (end - start) / 2) {
		fprintf(stderr, "raw: the token got lost\n");
		return 1;
	}
	double seconds = atof(argv[7]);
	printf("{\"received_s\": %.0f, \"sent_s\": %.0f, \"rotations_s\": %.0f}\n", (double)received / seconds,
		(double)sent / seconds, (double)rotations / seconds);
	return 0;
}
