/* The public API: limits of what a file may ask for. */
#include "model/limits.h"

#include <string.h>

#include "base/memory.h"
#include "format/format.h"

/* Safe for files from anywhere: docs/limits.md says what they are a few times of. Records and META are those of the
 * format. */
static const fd_limits defaults = {
    .size = sizeof(fd_limits),
    .file_bytes = UINT64_C(1) << 30,
    .meta_bytes = FD_FILE_MAX_META,
    .tensors = FD_FILE_MAX_RECORDS,
    .ops = FD_FILE_MAX_RECORDS,
    .operations = UINT64_C(1) << 34,
    .plan_bytes = UINT64_C(1) << 28,
    .context_bytes = UINT64_C(1) << 28,
};

/* The first version ends behind context_bytes. */
static const size_t first_version = offsetof(fd_limits, context_bytes) + sizeof(uint64_t);

static fd_status check_size(const fd_limits *limits, fd_error *error) {
    if (limits->size >= first_version) return FD_OK;
    return fd_fail(error, FD_ERR_ARGUMENT, "limits->size is %zu, expected sizeof(fd_limits), %zu", limits->size,
                   sizeof *limits);
}

fd_status fd_limits_default(fd_limits *limits, fd_error *error) {
    if (!limits) return fd_fail(error, FD_ERR_ARGUMENT, "fd_limits_default: a pointer is NULL");
    const fd_status status = check_size(limits, error);
    if (status != FD_OK) return status;
    const size_t size = fd_min(limits->size, sizeof defaults);
    memcpy(limits, &defaults, size);
    limits->size = size;
    return FD_OK;
}

fd_status fd_limits_resolve(const fd_limits *given, fd_limits *limits, fd_error *error) {
    *limits = defaults;
    if (!given) return FD_OK;
    const fd_status status = check_size(given, error);
    if (status != FD_OK) return status;
    fd_limits own = {0};
    memcpy(&own, given, fd_min(given->size, sizeof own));
    if (own.file_bytes) limits->file_bytes = own.file_bytes;
    if (own.meta_bytes) limits->meta_bytes = own.meta_bytes;
    if (own.tensors) limits->tensors = own.tensors;
    if (own.ops) limits->ops = own.ops;
    if (own.operations) limits->operations = own.operations;
    if (own.plan_bytes) limits->plan_bytes = own.plan_bytes;
    if (own.context_bytes) limits->context_bytes = own.context_bytes;
    return FD_OK;
}

fd_status fd_limits_hold(uint64_t asked, uint64_t limit, const char *name, const char *what, fd_error *error) {
    if (asked <= limit) return FD_OK;
    return fd_fail(error, FD_ERR_LIMIT,
                   "the model takes %llu %s, more than the limit %s of %llu: raise it (limits=, --limit, "
                   "fd_limits) for a file that you trust",
                   (unsigned long long)asked, what, name, (unsigned long long)limit);
}
