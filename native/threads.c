/* Threads on secret stacks; replaces the C library's calls.
 *
 *   pthread_create   stacks from the region, taken back when the thread is gone
 *   pthread_join     polls: a shared futex cannot wait on a secret page
 */
#define _GNU_SOURCE
#include "pages.h"
#include "scratch.h"

#include <dlfcn.h>
#include <pthread.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define STACK_BYTES (4 * MIB)
#define MOST_STACKS 4096

struct stack {
    char *base;
    size_t size;
    pid_t tid;             /* 0 until the thread runs */
    char taken, detached;
    void *(*run)(void *);
    void *argument;
};
static struct stack stacks[MOST_STACKS];
static unsigned most_threads;
static pthread_mutex_t stack_lock = PTHREAD_MUTEX_INITIALIZER;

static int (*real_create)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
static int (*real_detach)(pthread_t);
static pthread_once_t real_once = PTHREAD_ONCE_INIT;
static void find_real(void) {
    real_create = (__typeof__(real_create))dlvsym(RTLD_NEXT, "pthread_create", "GLIBC_2.34");
    if (!real_create) real_create = (__typeof__(real_create))dlvsym(RTLD_NEXT, "pthread_create", "GLIBC_2.2.5");
    real_detach = (__typeof__(real_detach))dlvsym(RTLD_NEXT, "pthread_detach", "GLIBC_2.34");
    if (!real_detach) real_detach = (__typeof__(real_detach))dlvsym(RTLD_NEXT, "pthread_detach", "GLIBC_2.2.5");
}

void memory_limits(size_t heap_bytes, unsigned threads) {
    pages_limit(heap_bytes);
    most_threads = threads;
}

static void *begin(void *p) {
    struct stack *s = p;
    s->tid = (pid_t)syscall(SYS_gettid);
    return s->run(s->argument);
}

/* Free the stacks of threads that can no longer be joined and that have ended in the kernel. */
static unsigned sweep(void) {
    unsigned alive = 0;
    pid_t self = getpid();
    for (int i = 0; i < MOST_STACKS; i++) {
        struct stack *s = &stacks[i];
        if (!s->taken) continue;
        if (s->detached && s->tid && syscall(SYS_tgkill, self, s->tid, 0) != 0 && errno == ESRCH) {
            s->taken = (char)(pages_give_back(pages_number(s->base), s->size / PAGE) != 0);
            continue;
        }
        alive++;
    }
    return alive;
}

EXPORT int pthread_create(pthread_t *thread, const pthread_attr_t *given, void *(*run)(void *), void *argument) {
    pthread_once(&real_once, find_real);
    if (!memory_region().base) return real_create(thread, given, run, argument);
    pthread_attr_t mine;
    int state = PTHREAD_CREATE_JOINABLE, error;
    size_t size = STACK_BYTES;
    pthread_attr_init(&mine);
    if (given) {
        size_t asked = 0, standard = 0;
        pthread_attr_getdetachstate(given, &state);
        pthread_attr_getstacksize(given, &asked);
        pthread_attr_getstacksize(&mine, &standard);
        if (asked && asked != standard) size = asked;
    }
    size = ((size + PAGE - 1) & ~(PAGE - 1)) + PAGE;
    pthread_mutex_lock(&stack_lock);
    unsigned alive = sweep();
    struct stack *s = NULL;
    for (int i = 0; i < MOST_STACKS && !s; i++) if (!stacks[i].taken) s = &stacks[i];
    if (!s || (most_threads && alive >= most_threads)) { error = EAGAIN; goto out; }
    char *base = pages_take(size, PROT_READ | PROT_WRITE);
    if (base == MAP_FAILED) { error = EAGAIN; goto out; }
    if (pages_protect(pages_number(base), 1, PROT_NONE)) {
        pages_give_back(pages_number(base), size / PAGE);
        error = EAGAIN;
        goto out;
    }
    *s = (struct stack){base, size, 0, 1, state == PTHREAD_CREATE_DETACHED, run, argument};
    pthread_attr_setdetachstate(&mine, state);
    pthread_attr_setstack(&mine, base + PAGE, size - PAGE);
    error = real_create(thread, &mine, begin, s);
    if (error) {
        s->taken = 0;
        pages_give_back(pages_number(base), size / PAGE);
    }
out:
    pthread_mutex_unlock(&stack_lock);
    pthread_attr_destroy(&mine);
    return error;
}

static void release(pthread_t thread) {
    pthread_mutex_lock(&stack_lock);
    for (int i = 0; i < MOST_STACKS; i++) {
        struct stack *s = &stacks[i];
        if (s->taken && (char *)thread >= s->base && (char *)thread < s->base + s->size) s->detached = 1;
    }
    pthread_mutex_unlock(&stack_lock);
}

EXPORT int pthread_detach(pthread_t thread) {
    pthread_once(&real_once, find_real);
    int error = real_detach(thread);
    if (!error) release(thread);
    return error;
}

static int join_until(pthread_t thread, void **value, clockid_t clock, const struct timespec *end) {
    struct timespec pause = {0, 20000}, now;
    int error;
    while ((error = pthread_tryjoin_np(thread, value)) == EBUSY) {
        if (end) {
            clock_gettime(clock, &now);
            if (now.tv_sec > end->tv_sec || (now.tv_sec == end->tv_sec && now.tv_nsec >= end->tv_nsec)) {
                return ETIMEDOUT;
            }
        }
        nanosleep(&pause, NULL);
        if (pause.tv_nsec < 2000000) pause.tv_nsec *= 2;
    }
    if (!error) release(thread);
    return error;
}

EXPORT int pthread_join(pthread_t thread, void **value) {
    return join_until(thread, value, CLOCK_MONOTONIC, NULL);
}
EXPORT int pthread_timedjoin_np(pthread_t thread, void **value, const struct timespec *end) {
    return join_until(thread, value, CLOCK_REALTIME, end);
}
EXPORT int pthread_clockjoin_np(pthread_t thread, void **value, clockid_t clock, const struct timespec *end) {
    return join_until(thread, value, clock, end);
}
