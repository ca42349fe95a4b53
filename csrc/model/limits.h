/* What a file may ask for: defaults, and the sentence that refuses one. */
#ifndef FD_MODEL_LIMITS_H
#define FD_MODEL_LIMITS_H

#include "base/status.h"

/* Puts into *limits those that a caller gave, and the defaults of what it left out; `given` may be NULL. */
fd_status fd_limits_resolve(const fd_limits *given, fd_limits *limits, fd_error *error);

/* What the limit `operations` counts, in the sentence. */
#define FD_LIMITS_OPERATIONS "operations an image"

/* FD_ERR_LIMIT if `asked` is beyond `limit`: so many of `what`, by the limit called `name`. */
fd_status fd_limits_hold(uint64_t asked, uint64_t limit, const char *name, const char *what, fd_error *error);

#endif
