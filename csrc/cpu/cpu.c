#include "cpu/cpu.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#if !defined(__BYTE_ORDER__) || __BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__
#error "fastdigit supports little-endian CPUs only: model files are used where they lie"
#endif

_Static_assert(sizeof(size_t) == 8, "the loader multiplies 32-bit dimensions in size_t");

#define FD_ISA_ROW(name, floats, bytes, features)            \
    extern const fd_float_kernels fd_float_kernels_##floats; \
    extern const fd_byte_kernels fd_byte_kernels_##bytes;
#include "isa/isas.def"
#undef FD_ISA_ROW

static const fd_isa isas[] = {
#define FD_ISA_ROW(name, floats, bytes, features) \
    {#name, &fd_float_kernels_##floats, &fd_byte_kernels_##bytes, features},
#include "isa/isas.def"
#undef FD_ISA_ROW
};

enum { ISAS = sizeof isas / sizeof isas[0] };

const fd_isa *fd_isa_at(size_t i) { return i < ISAS ? &isas[i] : NULL; }

int fd_isa_usable(const fd_isa *isa, uint32_t features) { return (isa->features & ~features) == 0; }

fd_status fd_isa_choose(uint32_t features, const char *wanted, const char *who, const fd_isa **isa, fd_error *error) {
    char names[96] = "";
    for (size_t i = 0; i < ISAS; i++) {
        const char *const name = isas[i].name;
        const int usable = fd_isa_usable(&isas[i], features), named = wanted && strcmp(wanted, name) == 0;
        if (named && !usable) return fd_fail(error, FD_ERR_ISA, "%s is '%s', which this CPU does not have", who, name);
        if (named || (!wanted && usable)) {
            *isa = &isas[i];
            return FD_OK;
        }
        const size_t used = strlen(names);
        snprintf(names + used, sizeof names - used, "%s%s", used ? ", " : "", name);
    }
    return fd_fail(error, FD_ERR_ISA, "%s is '%.40s', which is unknown; this build has: %s", who, wanted, names);
}

fd_status fd_isa_select(const fd_isa **isa, fd_error *error) {
    return fd_isa_choose(fd_cpu_features(), getenv("FASTDIGIT_ISA"), "FASTDIGIT_ISA", isa, error);
}

const char *fd_isa_name(size_t i, int *usable) {
    const fd_isa *const isa = fd_isa_at(i);
    if (usable) *usable = isa && fd_isa_usable(isa, fd_cpu_features());
    return isa ? isa->name : NULL;
}

fd_status fd_isa_selected(const char **name, fd_error *error) {
    const fd_isa *isa;
    if (!name) return fd_fail(error, FD_ERR_ARGUMENT, "fd_isa_selected: name is NULL");
    const fd_status status = fd_isa_select(&isa, error);
    *name = status == FD_OK ? isa->name : NULL;
    return status;
}
