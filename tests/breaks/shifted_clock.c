/* Clocks that a test moves under a process, as if an operator had set the wall clock, or the
 * machine had slept: preloaded (LD_PRELOAD), with what to shift by in a file that is mapped.
 *
 * Sees clock_gettime, timerfd_* and timer_*, for CLOCK_REALTIME and CLOCK_BOOTTIME. A timer with an
 * absolute time is armed anew when a clock is shifted, as the kernel does; one that is to be
 * cancelled then (TFD_TIMER_CANCEL_ON_SET) is readable, and its read fails with ECANCELED. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

enum { TIMERS = 64, NS = 1000000000, STEP_NS = 1000000 };

static volatile struct {
    int64_t realtime_ns, boottime_ns;
    uint64_t generation;
} *shift;

struct armed {
    int used, descriptor, clock, flags, cancelled;
    timer_t timer;
    struct itimerspec wanted;
};

static struct armed timers[TIMERS];
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

static int64_t shifted_by(int clock)
{
    if (!shift)
        return 0;
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE || clock == CLOCK_REALTIME_ALARM)
        return shift->realtime_ns;
    if (clock == CLOCK_BOOTTIME || clock == CLOCK_BOOTTIME_ALARM)
        return shift->boottime_ns;
    return 0;
}

static void *real(const char *name)
{
    return dlsym(RTLD_NEXT, name);
}

int clock_gettime(clockid_t clock, struct timespec *at)
{
    int failed = (int)syscall(SYS_clock_gettime, clock, at);
    if (!failed) {
        int64_t ns = (int64_t)at->tv_sec * NS + at->tv_nsec + shifted_by(clock);
        at->tv_sec = ns / NS;
        at->tv_nsec = ns % NS;
    }
    return failed;
}

static void arm(struct armed *each)
{
    struct itimerspec spec = each->wanted;
    if (spec.it_value.tv_sec || spec.it_value.tv_nsec) {
        int64_t ns = (int64_t)spec.it_value.tv_sec * NS + spec.it_value.tv_nsec;
        ns -= shifted_by(each->clock);
        if (ns < 1 || each->cancelled)
            ns = 1;
        spec.it_value.tv_sec = ns / NS;
        spec.it_value.tv_nsec = ns % NS;
    }
    if (each->descriptor >= 0)
        syscall(SYS_timerfd_settime, each->descriptor,
                each->cancelled ? TFD_TIMER_ABSTIME : each->flags, &spec, NULL);
    else
        ((int (*)(timer_t, int, const struct itimerspec *, struct itimerspec *))real(
            "timer_settime"))(each->timer, each->flags, &spec, NULL);
}

static struct armed *entry(int descriptor, timer_t timer)
{
    for (int i = 0; i < TIMERS; i++)
        if (timers[i].used && timers[i].descriptor == descriptor &&
            (descriptor >= 0 || timers[i].timer == timer))
            return &timers[i];
    for (int i = 0; i < TIMERS; i++)
        if (!timers[i].used) {
            timers[i] = (struct armed){.used = 1, .descriptor = descriptor, .timer = timer};
            return &timers[i];
        }
    abort();
}

int timerfd_create(int clock, int flags)
{
    int descriptor = (int)syscall(SYS_timerfd_create, clock, flags);
    if (descriptor >= 0) {
        pthread_mutex_lock(&lock);
        struct armed *made = entry(descriptor, NULL);
        made->clock = clock;
        made->cancelled = 0;
        made->wanted = (struct itimerspec){0};
        pthread_mutex_unlock(&lock);
    }
    return descriptor;
}

int timerfd_settime(int descriptor, int flags, const struct itimerspec *spec,
                    struct itimerspec *old)
{
    if (!(flags & TFD_TIMER_ABSTIME))
        return (int)syscall(SYS_timerfd_settime, descriptor, flags, spec, old);
    pthread_mutex_lock(&lock);
    struct armed *each = entry(descriptor, NULL);
    each->flags = flags;
    each->wanted = *spec;
    each->cancelled = 0;
    arm(each);
    pthread_mutex_unlock(&lock);
    return 0;
}

int timer_create(clockid_t clock, struct sigevent *event, timer_t *timer)
{
    int failed = ((int (*)(clockid_t, struct sigevent *, timer_t *))real("timer_create"))(
        clock, event, timer);
    if (!failed) {
        pthread_mutex_lock(&lock);
        entry(-1, *timer)->clock = clock;
        pthread_mutex_unlock(&lock);
    }
    return failed;
}

int timer_settime(timer_t timer, int flags, const struct itimerspec *spec, struct itimerspec *old)
{
    if (!(flags & TIMER_ABSTIME))
        return ((int (*)(timer_t, int, const struct itimerspec *, struct itimerspec *))real(
            "timer_settime"))(timer, flags, spec, old);
    pthread_mutex_lock(&lock);
    struct armed *each = entry(-1, timer);
    each->flags = flags;
    each->wanted = *spec;
    arm(each);
    pthread_mutex_unlock(&lock);
    return 0;
}

ssize_t read(int descriptor, void *to, size_t size)
{
    if (shift && size == sizeof(uint64_t)) {
        int cancelled = 0;
        pthread_mutex_lock(&lock);
        for (int i = 0; i < TIMERS; i++)
            if (timers[i].used && timers[i].descriptor == descriptor && timers[i].cancelled) {
                cancelled = 1;
                timers[i].cancelled = 0;
                arm(&timers[i]);
            }
        pthread_mutex_unlock(&lock);
        if (cancelled) {
            errno = ECANCELED;
            return -1;
        }
    }
    return syscall(SYS_read, descriptor, to, size);
}

static void *follow(void *unused)
{
    uint64_t seen = shift->generation;
    int64_t wall = shift->realtime_ns;
    for (;;) {
        struct timespec step = {0, STEP_NS};
        nanosleep(&step, NULL);
        if (seen == shift->generation)
            continue;
        seen = shift->generation;
        pthread_mutex_lock(&lock);
        for (int i = 0; i < TIMERS; i++) {
            struct armed *each = &timers[i];
            if (!each->used || !(each->wanted.it_value.tv_sec || each->wanted.it_value.tv_nsec))
                continue;
            each->cancelled = each->descriptor >= 0 && each->clock == CLOCK_REALTIME &&
                              (each->flags & TFD_TIMER_CANCEL_ON_SET) && wall != shift->realtime_ns;
            arm(each);
        }
        wall = shift->realtime_ns;
        pthread_mutex_unlock(&lock);
    }
    return unused;
}

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv("SHIFTED_CLOCK");
    int file = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (file < 0)
        return;
    void *mapped = mmap(NULL, 4096, PROT_READ, MAP_SHARED, file, 0);
    close(file);
    if (mapped == MAP_FAILED)
        return;
    shift = mapped;
    sigset_t all, before;
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    pthread_create(&thread, NULL, follow, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}
