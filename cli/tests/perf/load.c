/*
 * A client of corosync's, by libcpg, that is measured: what `quorate bench` has its members do, as a process beside the
 * daemon.
 *
 *     load send GROUP CLIENTS SENDERS IS_SENDER SIZE SECONDS RATE
 *     load ping GROUP SIZE COUNT PAUSE_US
 *
 * `send`: begins when CLIENTS are in the group. A sender sends for so many seconds, RATE messages a second or, if that is
 * 0, as many as the daemon takes, and then an end. Done when the ends of SENDERS have been delivered here.
 *
 * `ping`: sends COUNT messages, each when the last has come back and the pause is over.
 *
 * Prints one JSON object. Ends with 1, and a line on stderr, if the daemon refuses something or nothing comes for ten
 * seconds.
 */
#include <corosync/cpg.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum kind { LOAD, END, PING };

struct message {
	uint32_t kind, node;
	uint64_t number;
};

static const uint64_t SECOND = 1000000000ull;
/* How long to wait for anything to come. */
static const uint64_t PATIENCE = 10 * SECOND;
/* Messages sent before what has come is looked at. */
enum { BURST = 64 };

static cpg_handle_t handle;
static int daemon_fd;
static uint32_t me;
static size_t clients, senders;
static uint64_t began, ended, heard;
static uint64_t delivered, bytes, order = 0xcbf29ce484222325ull;
static size_t ends;
static uint64_t returned;

static uint64_t now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * SECOND + (uint64_t)t.tv_nsec;
}

static void fail(const char *what, int error)
{
	fprintf(stderr, "load: %s: %d\n", what, error);
	exit(1);
}

static void must(cs_error_t error, const char *what)
{
	if (error != CS_OK)
		fail(what, (int)error);
}

/* What the machine has been busy with, in seconds of one processor. */
static double busy(void)
{
	double spent[7] = { 0 };
	FILE *stat = fopen("/proc/stat", "r");
	if (!stat)
		return 0;
	if (fscanf(stat, "cpu %lf %lf %lf %lf %lf %lf %lf", spent, spent + 1, spent + 2, spent + 3, spent + 4, spent + 5,
		    spent + 6) != 7)
		memset(spent, 0, sizeof spent);
	fclose(stat);
	/* All but idle and iowait. */
	return (spent[0] + spent[1] + spent[2] + spent[5] + spent[6]) / (double)sysconf(_SC_CLK_TCK);
}

static void deliver(cpg_handle_t h, const struct cpg_name *group, uint32_t node, uint32_t pid, void *payload, size_t length)
{
	const struct message *message = payload;
	(void)h, (void)group;
	heard = now();
	if (message->kind == PING && node == me && pid == (uint32_t)getpid())
		returned = message->number;
	if (message->kind == LOAD) {
		delivered++;
		bytes += length;
		order = (order ^ ((uint64_t)node << 40 ^ message->number)) * 0x100000001b3ull;
	}
	if (message->kind == END && ++ends == senders)
		ended = heard;
}

static void change(cpg_handle_t h, const struct cpg_name *group, const struct cpg_address *members, size_t n,
	const struct cpg_address *left, size_t n_left, const struct cpg_address *joined, size_t n_joined)
{
	(void)h, (void)group, (void)members, (void)left, (void)n_left, (void)joined, (void)n_joined;
	if (!began && n >= clients)
		began = now();
}

/* Takes what has come; waits for so many milliseconds if nothing has. */
static void take(int wait)
{
	struct pollfd event = { daemon_fd, POLLIN, 0 };
	if (poll(&event, 1, wait) > 0)
		must(cpg_dispatch(handle, CS_DISPATCH_ALL), "dispatch");
	if (now() - heard > PATIENCE)
		fail("nothing comes any more", 0);
}

static void enter(const char *name)
{
	struct cpg_name group = { 0 };
	cpg_model_v1_data_t model = { .cpg_deliver_fn = deliver, .cpg_confchg_fn = change };
	cs_error_t error;

	if (strlen(name) >= CPG_MAX_NAME_LENGTH)
		fail("the group's name is too long", 0);
	group.length = strlen(name);
	memcpy(group.value, name, group.length);
	must(cpg_model_initialize(&handle, CPG_MODEL_V1, (cpg_model_data_t *)&model, NULL), "initialize");
	must(cpg_fd_get(handle, &daemon_fd), "fd");
	must(cpg_local_get(handle, &me), "local");
	heard = now();
	while ((error = cpg_join(handle, &group)) == CS_ERR_TRY_AGAIN)
		take(1);
	must(error, "join");
	while (!began)
		take(10);
	heard = now();
}

/* Whether the daemon took it; if not, there is no room. */
static int say(struct message *message, size_t size)
{
	struct iovec vector = { message, size };
	cs_error_t error = cpg_mcast_joined(handle, CPG_TYPE_AGREED, &vector, 1);
	if (error == CS_ERR_TRY_AGAIN)
		return 0;
	must(error, "mcast");
	return 1;
}

static void send_all(struct message *message, size_t size, int sender, double seconds, double rate)
{
	uint64_t last = began + (uint64_t)(seconds * (double)SECOND);
	double busy_before = busy();

	while (!ended) {
		uint64_t t = now();
		int sent = 0;
		while (sender && t < last && sent < BURST) {
			if (rate > 0 && (double)message->number > (double)(t - began) / (double)SECOND * rate)
				break;
			if (!say(message, size))
				break;
			message->number++;
			sent++;
		}
		if (sender && t >= last) {
			struct message end = { .kind = END, .node = me, .number = message->number };
			sender = !say(&end, sizeof end);
		}
		take(sent ? 0 : 1);
	}
	double took = (double)(ended - began) / (double)SECOND;
	printf("{\"delivered\": %llu, \"bytes\": %llu, \"seconds\": %.6f, \"order\": \"%016llx\", \"busy\": %.2f}\n",
		(unsigned long long)delivered, (unsigned long long)bytes, took, (unsigned long long)order,
		(busy() - busy_before) / took);
}

static int ascending(const void *a, const void *b)
{
	uint64_t one = *(const uint64_t *)a, other = *(const uint64_t *)b;
	return (one > other) - (one < other);
}

static void ping(struct message *message, size_t size, size_t count, unsigned pause)
{
	uint64_t *took = calloc(count, sizeof *took);
	if (!took)
		abort();
	for (size_t n = 0; n < count; n++) {
		uint64_t t = now();
		message->kind = PING;
		message->number = n + 1;
		heard = t;
		while (!say(message, size))
			take(0);
		while (returned != n + 1)
			take(100);
		took[n] = now() - t;
		if (pause)
			usleep(pause);
	}
	qsort(took, count, sizeof *took, ascending);
	printf("{\"count\": %zu, \"lat_p50_us\": %.1f, \"lat_p99_us\": %.1f}\n", count, (double)took[(count - 1) / 2] / 1e3,
		(double)took[(count * 99 + 99) / 100 - 1] / 1e3);
	free(took);
}

int main(int argc, char **argv)
{
	int sends = argc == 9 && !strcmp(argv[1], "send");
	if (!sends && (argc != 6 || strcmp(argv[1], "ping")))
		fail("wrong usage", argc);
	size_t size = strtoull(argv[sends ? 6 : 3], NULL, 10);
	size = size < sizeof(struct message) ? sizeof(struct message) : size;
	struct message *message = calloc(1, size);
	if (!message)
		abort();
	clients = sends ? strtoull(argv[3], NULL, 10) : 1;
	senders = sends ? strtoull(argv[4], NULL, 10) : 0;
	enter(argv[2]);
	message->node = me;
	if (sends)
		send_all(message, size, atoi(argv[5]), atof(argv[7]), atof(argv[8]));
	else
		ping(message, size, strtoull(argv[4], NULL, 10), (unsigned)atoi(argv[5]));
	cpg_finalize(handle);
	return 0;
}
