/*
 * A library to preload into a node. It gives the node a wall clock that is wrong by the number of
 * seconds in the file $SHIM_CLOCK, and a disk that is stuck while the file $SHIM_STUCK exists.
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
