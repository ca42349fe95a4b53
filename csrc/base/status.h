/* How the library reports errors: a status to the caller, a sentence for people. */
#ifndef FD_BASE_STATUS_H
#define FD_BASE_STATUS_H

#include "fastdigit.h"

/* Fills *error, which may be NULL. */
__attribute__((format(printf, 3, 4))) void fd_say(fd_error *error, fd_status status, const char *format, ...);

/* And returns the status, so that a failing function ends in `return fd_fail(...)`. A macro, for compilers and
   analysers see then that it isn't FD_OK. */
#define fd_fail(error, status, ...) (fd_say(error, status, __VA_ARGS__), (status))

#endif
