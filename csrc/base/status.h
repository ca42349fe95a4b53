/* How the library reports errors: a status to the caller, a sentence for people. */
#ifndef FD_BASE_STATUS_H
#define FD_BASE_STATUS_H

#include "fastdigit.h"

/* Fills *error (which may be NULL) and returns status, so that a failing function ends in `return fd_fail(...)`. */
__attribute__((format(printf, 3, 4))) fd_status fd_fail(fd_error *error, fd_status status, const char *format, ...);

#endif
