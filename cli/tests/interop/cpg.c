/*
 * A member of a corosync process group, through libcpg: sends its input, prints what it receives.
 *
 *     cpg GROUP
 *     cpg GROUP COUNT LENGTH
 *
 * Reads messages from stdin, each as its length (4 bytes, little-endian) followed by its bytes. Or
 * it sends COUNT messages of LENGTH zeros, and reads only when one of them is refused. In the end
 * it waits until everything that it sent was delivered here, leaves the group and exits. Prints one
 * line for each event, in the order of the ring:
 *
 *     ready NODE PID                         the daemon answers and this process is in the group
 *     ring NODE.SEQ NODE...                  a ring's id (seq in hexadecimal) and members, after
 *                                            its sync
 *     group NODE:PID... [-+NODE:PID:REASON]  the group's members, and the processes that left (-)
 *                                            and joined (+), with libcpg's number of the reason
 *     deliver NODE PID LENGTH CRC            a message, with its CRC-32
 *     end SENT
 *
 * Exits with 3 if the daemon has gone away.
 */
#include <corosync/cpg.h>
#include <errno.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { BAD_USE = 2, DAEMON_GONE = 3, INPUT_CUT = 4 };

static cpg_handle_t handle;
static uint32_t me;
static uint64_t sent, returned;

static uint32_t crc32(const unsigned char *bytes, size_t length)
{
	static uint32_t table[256];
	if (!table[1])
		for (uint32_t i = 0; i < 256; i++) {
			uint32_t crc = i;
			for (int bit = 0; bit < 8; bit++)
				crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
			table[i] = crc;
		}
	uint32_t crc = ~0u;
	for (size_t i = 0; i < length; i++)
		crc = crc >> 8 ^ table[(crc ^ bytes[i]) & 0xff];
	return ~crc;
}

static void deliver(cpg_handle_t h, const struct cpg_name *group, uint32_t node, uint32_t pid, void *message,
	size_t length)
{
	(void)h, (void)group;
	printf("deliver %u %u %zu %08x\n", node, pid, length, crc32(message, length));
	returned += node == me && pid == (uint32_t)getpid();
}

static void change(cpg_handle_t h, const struct cpg_name *group, const struct cpg_address *members, size_t n,
	const struct cpg_address *left, size_t n_left, const struct cpg_address *joined, size_t n_joined)
{
	(void)h, (void)group;
	printf("group");
	for (size_t i = 0; i < n; i++)
		printf(" %u:%u", members[i].nodeid, members[i].pid);
	for (size_t i = 0; i < n_left; i++)
		printf(" -%u:%u:%u", left[i].nodeid, left[i].pid, left[i].reason);
	for (size_t i = 0; i < n_joined; i++)
		printf(" +%u:%u:%u", joined[i].nodeid, joined[i].pid, joined[i].reason);
	putchar('\n');
}

static void ring(cpg_handle_t h, struct cpg_ring_id id, uint32_t n, const uint32_t *members)
{
	(void)h;
	printf("ring %u.%llx", id.nodeid, (unsigned long long)id.seq);
	for (uint32_t i = 0; i < n; i++)
		printf(" %u", members[i]);
	putchar('\n');
}

static void must(cs_error_t error, const char *what)
{
	if (error == CS_OK)
		return;
	fflush(stdout);
	fprintf(stderr, "cpg: %s: error %d\n", what, error);
	exit(error == CS_ERR_LIBRARY || error == CS_ERR_BAD_HANDLE ? DAEMON_GONE : 1);
}

/* Returns whether to ask the daemon again later: it syncs, starts, or its queue is full. corosync
 * also gives up a long message that a change of its group comes between. */
static int busy(cs_error_t error, const char *what)
{
	if (error == CS_ERR_TRY_AGAIN || error == CS_ERR_INTERRUPT)
		return 1;
	must(error, what);
	return 0;
}

static void dispatch(int fd, int wait)
{
	struct pollfd event = { fd, POLLIN, 0 };
	fflush(stdout);
	if (poll(&event, 1, wait) > 0)
		must(cpg_dispatch(handle, CS_DISPATCH_ALL), "dispatch");
}

/* Bytes of the input that wait to be sent: part of a message, or more. */
static unsigned char *input;
static size_t held, room;
static int ended;

static void take_input(void)
{
	if (room - held < 1 << 16) {
		room += 4 << 20;
		input = realloc(input, room);
		if (!input)
			abort();
	}
	ssize_t got = read(0, input + held, room - held);
	if (got < 0 && errno != EINTR && errno != EAGAIN)
		exit(INPUT_CUT);
	held += got > 0 ? (size_t)got : 0;
	ended = got == 0;
}

/* Sends as many whole messages as the daemon takes. Returns whether it would take more. */
static int send_held(void)
{
	size_t at = 0;
	int more = 1;
	while (held - at >= 4) {
		const unsigned char *p = input + at;
		size_t length = p[0] | p[1] << 8 | p[2] << 16 | (size_t)p[3] << 24;
		if (held - at - 4 < length)
			break;
		struct iovec message = { input + at + 4, length };
		if (busy(cpg_mcast_joined(handle, CPG_TYPE_AGREED, &message, 1), "mcast")) {
			more = 0;
			break;
		}
		sent++;
		at += 4 + length;
	}
	memmove(input, input + at, held - at);
	held -= at;
	return more;
}

/* Zeros that are to be sent instead of an input, and how often. */
static struct iovec zeros;
static uint64_t unsent;

/* Sends as many of them as the daemon takes. Returns whether it would take more. */
static int send_zeros(void)
{
	for (; unsent; unsent--, sent++)
		if (busy(cpg_mcast_joined(handle, CPG_TYPE_AGREED, &zeros, 1), "mcast"))
			return 0;
	return 1;
}

int main(int argc, char **argv)
{
	struct cpg_name group = { 0 };
	cpg_model_v1_data_t model = {
		.cpg_deliver_fn = deliver,
		.cpg_confchg_fn = change,
		.cpg_totem_confchg_fn = ring,
		.flags = CPG_MODEL_V1_DELIVER_INITIAL_TOTEM_CONF,
	};
	int fd, error;

	if ((argc != 2 && argc != 4) || strlen(argv[1]) >= CPG_MAX_NAME_LENGTH)
		return BAD_USE;
	if (argc == 4) {
		unsent = strtoull(argv[2], NULL, 10);
		zeros.iov_len = strtoull(argv[3], NULL, 10);
		zeros.iov_base = calloc(1, zeros.iov_len);
		ended = 1;
	}
	group.length = strlen(argv[1]);
	memcpy(group.value, argv[1], group.length);

	/* A starting daemon does not answer, or with all sorts of errors. The caller limits the wait. */
	while ((error = cpg_model_initialize(&handle, CPG_MODEL_V1, (cpg_model_data_t *)&model, NULL)) != CS_OK)
		usleep(5000);
	must(cpg_fd_get(handle, &fd), "fd");
	while (busy(cpg_local_get(handle, &me), "local"))
		dispatch(fd, 5);
	while (busy(cpg_join(handle, &group), "join"))
		dispatch(fd, 5);
	printf("ready %u %d\n", me, getpid());

	while (!ended || held || unsent || returned < sent) {
		int more = send_held() && send_zeros();
		if (ended && held && more)
			return INPUT_CUT;
		struct pollfd events[] = { { fd, POLLIN, 0 }, { 0, POLLIN, 0 } };
		/* More input is read once the last is gone. A busy daemon is asked again soon. */
		int hungry = !ended && more && held < 1 << 22;
		fflush(stdout);
		poll(events, hungry ? 2 : 1, more ? -1 : 2);
		if (events[0].revents)
			must(cpg_dispatch(handle, CS_DISPATCH_ALL), "dispatch");
		if (hungry && events[1].revents)
			take_input();
	}
	while (busy(cpg_leave(handle, &group), "leave"))
		dispatch(fd, 5);
	printf("end %llu\n", (unsigned long long)sent);
	fflush(stdout);
	cpg_finalize(handle);
	return 0;
}
