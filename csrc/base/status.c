#include "base/status.h"

#include <stdarg.h>
#include <stdio.h>

#define TEXT(x) #x
#define DOTTED(major, minor, patch) TEXT(major) "." TEXT(minor) "." TEXT(patch)

const char *fd_version(void) { return DOTTED(FD_VERSION_MAJOR, FD_VERSION_MINOR, FD_VERSION_PATCH); }

const char *fd_status_name(fd_status status) {
    switch (status) {
    case FD_OK: return "FD_OK";
    case FD_ERR_ARGUMENT: return "FD_ERR_ARGUMENT";
    case FD_ERR_MEMORY: return "FD_ERR_MEMORY";
    case FD_ERR_IO: return "FD_ERR_IO";
    case FD_ERR_FORMAT: return "FD_ERR_FORMAT";
    case FD_ERR_VERSION: return "FD_ERR_VERSION";
    case FD_ERR_UNSUPPORTED: return "FD_ERR_UNSUPPORTED";
    case FD_ERR_ISA: return "FD_ERR_ISA";
    case FD_ERR_INPUT: return "FD_ERR_INPUT";
    case FD_ERR_LIMIT: return "FD_ERR_LIMIT";
    case FD_ERR_CANCELLED: return "FD_ERR_CANCELLED";
    case FD_ERR_TIMEOUT: return "FD_ERR_TIMEOUT";
    }
    return "FD_ERR_?";
}

void fd_say(fd_error *error, fd_status status, const char *format, ...) {
    if (!error) return;
    error->status = status;
    va_list args;
    va_start(args, format);
    vsnprintf(error->message, sizeof error->message, format, args);
    va_end(args);
}
