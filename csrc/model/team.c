#define _POSIX_C_SOURCE 200809L /* sched_yield */
#include "model/team.h"

#include <sched.h>
#include <stdatomic.h>

#include "model/pool.h"

/* Which phase is open and how many of its units are taken, in one word: a helper that was away cannot take a unit of a
 * phase that is over. */
enum { PHASE_SHIFT = 32 };
#define UNIT_MASK UINT64_C(0xFFFFFFFF)

typedef struct fd_team {
    fd_team_unit run;
    void (*idle)(void *arg);
    void *arg;
    const size_t *units;
    size_t phases;
    _Atomic uint64_t ticket;
    _Atomic size_t done; /* units of the open phase */
} fd_team;

/* A phase takes microseconds: waiting for the next one is busy at first, then gives the CPU to others. */
enum { SPINS = 4000 };

/* Whether that has taken long. */
static int wait_a_little(unsigned *spins) {
    if (++*spins > SPINS) {
        sched_yield();
        return 1;
    }
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
    return 0;
}

/* Takes units until the open phase has none left. Returns which phase that is. */
static size_t take_units(fd_team *team, unsigned worker) {
    uint64_t ticket = atomic_load_explicit(&team->ticket, memory_order_acquire);
    for (;;) {
        const size_t phase = (size_t)(ticket >> PHASE_SHIFT), unit = (size_t)(ticket & UNIT_MASK);
        if (phase >= team->phases || unit >= team->units[phase]) return phase;
        if (!atomic_compare_exchange_weak_explicit(&team->ticket, &ticket, ticket + 1, memory_order_acquire,
                                                   memory_order_acquire))
            continue;
        team->run(team->arg, worker, phase, unit);
        atomic_fetch_add_explicit(&team->done, 1, memory_order_release);
        ticket = atomic_load_explicit(&team->ticket, memory_order_acquire);
    }
}

static void lead(fd_team *team) {
    for (size_t phase = 0; phase < team->phases; phase++) {
        unsigned spins = 0;
        atomic_store_explicit(&team->done, 0, memory_order_relaxed);
        atomic_store_explicit(&team->ticket, (uint64_t)phase << PHASE_SHIFT, memory_order_release);
        take_units(team, 0);
        while (atomic_load_explicit(&team->done, memory_order_acquire) < team->units[phase])
            if (wait_a_little(&spins) && team->idle) team->idle(team->arg);
    }
    atomic_store_explicit(&team->ticket, (uint64_t)team->phases << PHASE_SHIFT, memory_order_release);
}

static void help(fd_team *team, unsigned worker) {
    unsigned spins = 0;
    while (take_units(team, worker) < team->phases) wait_a_little(&spins);
}

static void idle(void *arg) {
    const fd_team *const team = arg;
    if (team->idle) team->idle(team->arg);
}

static void work(void *arg, unsigned worker) {
    if (worker == 0)
        lead(arg);
    else
        help(arg, worker);
}

void fd_team_run(fd_team_unit run, void (*idle_of_caller)(void *arg), void *arg, const size_t *units, size_t phases,
                 unsigned threads) {
    fd_team team = {.run = run, .idle = idle_of_caller, .arg = arg, .units = units, .phases = phases};
    /* Nothing is open until the leader says so: a helper may be here first. */
    atomic_init(&team.ticket, UNIT_MASK);
    atomic_init(&team.done, 0);
    const fd_task task = {work, idle_of_caller ? idle : NULL, &team};
    fd_pool_run(&task, threads);
}
