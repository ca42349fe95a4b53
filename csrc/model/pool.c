#define _POSIX_C_SOURCE 200809L /* pthread_sigmask */
#include "model/pool.h"

#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <time.h>

/* How often a caller that waits for its helpers does what it does meanwhile. */
#define IDLE_NANOSECONDS 10000000

typedef struct fd_job {
    const fd_task *task;
    unsigned started; /* calls begun, the caller's included */
    unsigned wanted;  /* calls that may still begin */
    unsigned active;  /* helpers inside run */
    struct fd_job *next;
} fd_job;

static struct {
    pthread_mutex_t lock;
    pthread_cond_t work; /* a job was queued */
    pthread_cond_t done; /* a job's last helper has left */
    fd_job *queue;       /* jobs with wanted > 0 */
    unsigned threads;
    unsigned wanted; /* of all jobs in the queue */
    unsigned active; /* workers inside some run */
} pool = {.lock = PTHREAD_MUTEX_INITIALIZER, .work = PTHREAD_COND_INITIALIZER, .done = PTHREAD_COND_INITIALIZER};

static pthread_once_t once = PTHREAD_ONCE_INIT;

/* A child process has none of the threads: it begins with an empty pool. */
static void before_fork(void) { pthread_mutex_lock(&pool.lock); }
static void after_fork_parent(void) { pthread_mutex_unlock(&pool.lock); }
static void after_fork_child(void) {
    pthread_mutex_init(&pool.lock, NULL);
    pthread_cond_init(&pool.work, NULL);
    pthread_cond_init(&pool.done, NULL);
    pool.queue = NULL;
    pool.threads = pool.wanted = pool.active = 0;
}
static void install_fork_handlers(void) { pthread_atfork(before_fork, after_fork_parent, after_fork_child); }

static void unqueue(fd_job *job) {
    for (fd_job **at = &pool.queue; *at; at = &(*at)->next) {
        if (*at != job) continue;
        *at = job->next;
        return;
    }
}

static void *worker(void *unused) {
    (void)unused;
    pthread_mutex_lock(&pool.lock);
    for (;;) {
        while (!pool.queue) pthread_cond_wait(&pool.work, &pool.lock);
        fd_job *const job = pool.queue;
        const unsigned index = job->started++;
        job->active++;
        pool.active++;
        pool.wanted--;
        if (--job->wanted == 0) unqueue(job);
        pthread_mutex_unlock(&pool.lock);
        job->task->run(job->task->arg, index);
        pthread_mutex_lock(&pool.lock);
        pool.active--;
        if (--job->active == 0) pthread_cond_broadcast(&pool.done);
    }
    return NULL;
}

static int start_thread(void) {
    pthread_t thread;
    pthread_attr_t attributes;
    if (pthread_attr_init(&attributes) != 0) return 0;
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    /* The application's signals are for the application's threads. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int failed = pthread_create(&thread, &attributes, worker, NULL);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_attr_destroy(&attributes);
    return !failed;
}

/* Until the helpers have left. */
static void wait_for(fd_job *job) {
    const fd_task *const task = job->task;
    while (job->active) {
        if (!task->idle) {
            pthread_cond_wait(&pool.done, &pool.lock);
            continue;
        }
        struct timespec until;
        clock_gettime(CLOCK_REALTIME, &until);
        until.tv_nsec += IDLE_NANOSECONDS;
        until.tv_sec += until.tv_nsec / 1000000000;
        until.tv_nsec %= 1000000000;
        if (pthread_cond_timedwait(&pool.done, &pool.lock, &until) == 0) continue;
        pthread_mutex_unlock(&pool.lock);
        task->idle(task->arg);
        pthread_mutex_lock(&pool.lock);
    }
}

void fd_pool_run(const fd_task *task, unsigned threads) {
    if (threads <= 1) {
        task->run(task->arg, 0);
        return;
    }
    pthread_once(&once, install_fork_handlers);

    fd_job job = {.task = task, .started = 1, .wanted = threads - 1};
    pthread_mutex_lock(&pool.lock);
    pool.wanted += job.wanted;
    /* By what there is to do, not by who waits: a thread that has yet to run for the first time, or to wait again, is
     * as good as one that waits, and a call that is over before it does must not leave one more behind. */
    while (pool.threads < pool.active + pool.wanted && pool.threads < FD_MAX_THREADS - 1 && start_thread())
        pool.threads++;
    job.next = pool.queue;
    pool.queue = &job;
    for (unsigned i = 0; i < job.wanted; i++) pthread_cond_signal(&pool.work);
    pthread_mutex_unlock(&pool.lock);

    task->run(task->arg, 0);

    pthread_mutex_lock(&pool.lock);
    if (job.wanted) {
        unqueue(&job);
        pool.wanted -= job.wanted;
    }
    wait_for(&job);
    pthread_mutex_unlock(&pool.lock);
}
