/* Loaded into a host (LD_PRELOAD), so that the system fails it on demand: without privileges no test can fill a disk or
 * set the clock of one process. What it does stands in a file that the test writes and the host has mapped. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

/* As preload.rs writes it. */
struct faults {
    volatile int64_t clock_ahead_s;
    volatile int64_t disk_full;
    /* How often this made something fail, for the test to see that it did. */
    volatile int64_t writes_refused;
    volatile int64_t times_shifted;
};

static struct faults none;
static struct faults *faults = &none;

__attribute__((constructor)) static void map_faults(void) {
    const char *path = getenv("FAULTS_FILE");
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    if (fd < 0) return;
    void *mapped = mmap(NULL, sizeof *faults, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    close(fd);
    if (mapped != MAP_FAILED) faults = mapped;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    int result = (int)syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && clock == CLOCK_REALTIME && faults->clock_ahead_s) {
        now->tv_sec += faults->clock_ahead_s;
        faults->times_shifted++;
    }
    return result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone) {
    int result = (int)syscall(SYS_gettimeofday, now, zone);
    if (result == 0) now->tv_sec += faults->clock_ahead_s;
    return result;
}

time_t time(time_t *into) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (into) *into = now.tv_sec;
    return now.tv_sec;
}

/* librdkafka waits until a time by the wall clock that it was shown, and the kernel goes by its own. (A real clock that is
 * set back amid such a wait makes it longer by as much; this one doesn't.) */
int cnd_timedwait(cnd_t *restrict condition, mtx_t *restrict mutex, const struct timespec *restrict until) {
    static int (*real)(cnd_t *, mtx_t *, const struct timespec *);
    if (!real) *(void **)&real = dlsym(RTLD_NEXT, "cnd_timedwait");
    struct timespec by_kernel = *until;
    by_kernel.tv_sec -= faults->clock_ahead_s;
    return real(condition, mutex, &by_kernel);
}

/* A full disk refuses what is written, not the names of new files. */
ssize_t write(int fd, const void *bytes, size_t length) {
    if (faults->disk_full) {
        char link[32], path[4096];
        snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
        ssize_t n = readlink(link, path, sizeof path - 1);
        path[n > 0 ? n : 0] = 0;
        if (strstr(path, "/outbox/")) {
            faults->writes_refused++;
            errno = ENOSPC;
            return -1;
        }
    }
    return syscall(SYS_write, fd, bytes, length);
}
