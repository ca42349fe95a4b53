/* A pool of threads for the whole process: started when first asked for, blocked while idle, safe across fork. */
#ifndef FD_MODEL_POOL_H
#define FD_MODEL_POOL_H

#define FD_MAX_THREADS 256u

/* What the work of a pool is, and what its caller does now and then while it waits for the others. */
typedef struct fd_task {
    void (*run)(void *arg, unsigned worker);
    void (*idle)(void *arg); /* NULL: it sleeps */
    void *arg;
} fd_task;

/* Calls run(arg, 0) here and, as far as threads can be had, run(arg, i) for i in [1, threads) elsewhere; returns when
 * all calls that began have returned. A call may begin after another has finished, or not at all: the calls share out
 * the work among themselves, and one alone must be able to do it. */
void fd_pool_run(const fd_task *task, unsigned threads);

#endif
