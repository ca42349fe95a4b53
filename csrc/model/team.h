/* One call's work in phases, shared out among threads unit by unit. */
#ifndef FD_MODEL_TEAM_H
#define FD_MODEL_TEAM_H

#include <stddef.h>
#include <stdint.h>

/* Does unit `unit` of phase `phase` on worker `worker`, of which 0 is the caller. */
typedef void (*fd_team_unit)(void *arg, unsigned worker, size_t phase, size_t unit);

/* Calls run for every unit of phase 0, then of phase 1, and so on; a phase begins when the one before is complete.
 * Units of a phase run in any order on up to `threads` threads. Helpers that come late, or never, leave their share to
 * the others: nobody waits for a thread, only for a unit that one has begun. While the caller waits for that, it calls
 * `idle` again and again, if that is not NULL. */
void fd_team_run(fd_team_unit run, void (*idle)(void *arg), void *arg, const size_t *units, size_t phases,
                 unsigned threads);

#endif
