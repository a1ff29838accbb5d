/* For LD_PRELOAD: a signal at the worst moment. Where the main thread has slept for a second until it is woken, it gets
 * SIGTERM as if it were only about to: after the interpreter has looked for signals, before the kernel is asked to wait.
 * Who relies on the signal to cut the sleep short sleeps for ever. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <time.h>
#include <unistd.h>

static int is_main(void) { return gettid() == getpid(); }

static void interrupt(void) {
    static int done;
    if (!done++) tgkill(getpid(), gettid(), SIGTERM);
}

int poll(struct pollfd *fds, nfds_t count, int timeout_ms) {
    int (*sleep_until_woken)(struct pollfd *, nfds_t, int) = (int (*)(struct pollfd *, nfds_t, int))dlsym(RTLD_NEXT, "poll");
    if (timeout_ms >= 0 || !is_main()) return sleep_until_woken(fds, count, timeout_ms);
    int ready = sleep_until_woken(fds, count, 1000);
    if (ready != 0) return ready;
    interrupt();
    return sleep_until_woken(fds, count, -1);
}

int sem_wait(sem_t *semaphore) {
    int (*sleep_until_woken)(sem_t *) = (int (*)(sem_t *))dlsym(RTLD_NEXT, "sem_wait");
    if (!is_main()) return sleep_until_woken(semaphore);
    struct timespec soon;
    clock_gettime(CLOCK_REALTIME, &soon);
    soon.tv_sec += 1;
    if (sem_timedwait(semaphore, &soon) == 0) return 0;
    if (errno != ETIMEDOUT) return -1;
    interrupt();
    return sleep_until_woken(semaphore);
}
