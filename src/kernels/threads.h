/*
 * Threads that help with searches: those of the process, whoever searches.
 *
 * They begin when they are first asked for, know nothing of Python, and leave signals to others. A search is cut into
 * more parts than there are threads; whoever is free takes the next, so that one that is slow to wake up holds up
 * nobody. To wake a thread that sleeps takes some 50 us, and several times as long if its CPU sleeps too: after its last
 * part it waits busily for longer than that, or searches that follow each other would each find it asleep. It falls asleep
 * away from the CPU that searches came from, where Linux would often wake it, to run there when the search is over. As
 * with OpenMP's threads, there is no such waiting where OMP_WAIT_POLICY is PASSIVE, and only longer searches are cut then.
 */

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#define BUSILY 500000 /* nanoseconds that a thread waits busily */
#define STACK (1 << 18)

/* `parts` that anyone may take, but no more than `most` helpers. */
struct work {
    void (*do_part)(void *with, Py_ssize_t number);
    void *with;
    Py_ssize_t parts;
    int most;
    _Atomic Py_ssize_t next;
    atomic_int helpers;
    struct work *after;
};

static struct {
    pthread_mutex_t lock;
    pthread_cond_t more, fewer; /* work; helpers */
    struct work *open;
    atomic_long posted; /* works so far */
    int threads, asleep;
    atomic_int cpu; /* of whoever posted the last of them */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .more = PTHREAD_COND_INITIALIZER, .fewer = PTHREAD_COND_INITIALIZER};

static int64_t patience = BUSILY; /* nanoseconds that threads of this process wait busily */

static void read_policy(void)
{
    const char *policy = getenv("OMP_WAIT_POLICY");
    if (policy && !strcasecmp(policy, "passive"))
        patience = 0;
}

static int64_t now(void)
{
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return time.tv_sec * (int64_t)1000000000 + time.tv_nsec;
}

/* Some microseconds, unless another thread is to run on this CPU: perhaps the one that is waited for. */
static void pause_a_moment(void)
{
    for (int i = 0; i < 64; i++)
#if defined(__x86_64__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#else
        ;
#endif
    sched_yield();
}

static void take_parts(struct work *work)
{
    for (Py_ssize_t part; (part = atomic_fetch_add(&work->next, 1)) < work->parts;)
        work->do_part(work->with, part);
}

/* Leaves the CPU of whoever posted work last, for any other that the process's first thread may use. */
static void keep_apart(void)
{
    cpu_set_t others;
    if (sched_getaffinity(getpid(), sizeof others, &others))
        return;
    CPU_CLR(pool.cpu, &others);
    if (CPU_COUNT(&others))
        sched_setaffinity(0, sizeof others, &others);
}

/* Waits for work that was not there before, with the lock held. */
static void wait_for_work(void)
{
    long seen = pool.posted;
    if (patience) {
        pthread_mutex_unlock(&pool.lock);
        for (int64_t start = now(); pool.posted == seen && now() - start < patience;)
            pause_a_moment();
        if (pool.posted == seen)
            keep_apart();
        pthread_mutex_lock(&pool.lock);
    }
    for (; pool.posted == seen; pool.asleep--) {
        pool.asleep++;
        pthread_cond_wait(&pool.more, &pool.lock);
    }
}

static void *help(void *nothing)
{
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        struct work *work = pool.open;
        while (work && (work->next >= work->parts || work->helpers >= work->most))
            work = work->after;
        if (!work) {
            wait_for_work();
            continue;
        }
        work->helpers++;
        pthread_mutex_unlock(&pool.lock);
        if (patience && sched_getcpu() == pool.cpu)
            keep_apart();
        take_parts(work);
        pthread_mutex_lock(&pool.lock);
        if (!--work->helpers)
            pthread_cond_broadcast(&pool.fewer);
    }
    return nothing;
}

/* Begins threads until there are so many, or as many as the system gives. */
static void have_threads(int threads)
{
    pthread_attr_t attributes;
    sigset_t all, before;
    if (pool.threads >= threads || pthread_attr_init(&attributes))
        return;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    pthread_attr_setstacksize(&attributes, STACK);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    for (pthread_t thread; pool.threads < threads && !pthread_create(&thread, &attributes, help, NULL);)
        pool.threads++;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
}

/* Does all parts of some work, on this thread and on others. */
static void run(void (*do_part)(void *, Py_ssize_t), void *with, Py_ssize_t parts, int threads)
{
    struct work work = {.do_part = do_part, .with = with, .parts = parts};
    work.most = (int)(parts < threads ? parts : threads) - 1;
    if (work.most < 1) {
        take_parts(&work);
        return;
    }
    pthread_mutex_lock(&pool.lock);
    have_threads(work.most);
    work.after = pool.open;
    pool.open = &work;
    pool.cpu = sched_getcpu();
    pool.posted++;
    int sleepers = pool.asleep;
    pthread_mutex_unlock(&pool.lock);
    for (int i = 0; i < sleepers && i < work.most; i++)
        pthread_cond_signal(&pool.more);
    take_parts(&work);
    for (int64_t start = now(); patience && work.helpers && now() - start < patience;)
        pause_a_moment();
    pthread_mutex_lock(&pool.lock);
    struct work **place = &pool.open;
    while (*place != &work)
        place = &(*place)->after;
    *place = work.after;
    while (work.helpers)
        pthread_cond_wait(&pool.fewer, &pool.lock);
    pthread_mutex_unlock(&pool.lock);
}

/* In a child process there is none of the parent's threads. */
static void forget_threads(void)
{
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.more, NULL);
    pthread_cond_init(&pool.fewer, NULL);
    pool.open = NULL;
    pool.posted = 0;
    pool.threads = pool.asleep = 0;
}
