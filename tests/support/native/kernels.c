/* Each ISA's kernels by name, for tests. */
#include <string.h>

#include "cpu/cpu.h"

#define SHOWN __attribute__((visibility("default")))

typedef void (*function)(void);

static const fd_isa *isa_of(const char *name) {
    for (size_t i = 0; fd_isa_at(i); i++)
        if (strcmp(fd_isa_at(i)->name, name) == 0) return fd_isa_at(i);
    return NULL;
}

SHOWN size_t native_vector_floats(const char *isa) { return isa_of(isa) ? isa_of(isa)->floats->vector_floats : 0; }

/* A kernel of an ISA, or NULL. */
SHOWN function native_kernel(const char *isa, const char *name) {
    const fd_isa *const found = isa_of(isa);
    if (!found) return NULL;
#define FD_FLOAT_KERNEL(kernel, type, params) \
    if (strcmp(name, #kernel) == 0) return (function)found->floats->kernel;
#define FD_BYTE_KERNEL(kernel, type, params) \
    if (strcmp(name, #kernel) == 0) return (function)found->bytes->kernel;
#include "kernels/kernels.def"
    return NULL;
}

/* The name of the ISA that fd_isa_choose gives to a CPU with these features; NULL, and an error, if it refuses. */
SHOWN const char *native_choose(uint32_t features, const char *wanted, fd_error *error) {
    const fd_isa *isa;
    return fd_isa_choose(features, wanted, "FASTDIGIT_ISA", &isa, error) == FD_OK ? isa->name : NULL;
}
