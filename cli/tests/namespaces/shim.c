/*
 * Preloaded into a node, lies about its host: its wall clock is wrong by as many seconds as the file $SHIM_CLOCK says, and
 * its disk stands still for as long as there is a file $SHIM_STUCK.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

int clock_gettime(clockid_t clock, struct timespec *now) {
    int failed = syscall(SYS_clock_gettime, clock, now);
    const char *path = getenv("SHIM_CLOCK");
    FILE *file = !failed && clock == CLOCK_REALTIME && path ? fopen(path, "r") : NULL;
    long offset = 0;
    if (file) {
        if (fscanf(file, "%ld", &offset) == 1) now->tv_sec += offset;
        fclose(file);
    }
    return failed;
}

int fsync(int descriptor) {
    const char *path = getenv("SHIM_STUCK");
    while (path && access(path, F_OK) == 0) usleep(10000);
    return syscall(SYS_fsync, descriptor);
}
