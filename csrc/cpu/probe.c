#include "cpu/cpu.h"

fd_status fd_probe(const char *isa, fd_probe_kind kind, const float *memory, size_t size, size_t rounds, uint64_t *work,
                   fd_error *error) {
    const fd_isa *chosen;
    if (!work) return fd_fail(error, FD_ERR_ARGUMENT, "fd_probe: work is NULL");
    if (kind == FD_PROBE_READ && !memory) return fd_fail(error, FD_ERR_ARGUMENT, "fd_probe: memory is NULL");
    const fd_status status =
        isa ? fd_isa_choose(fd_cpu_features(), isa, "fd_probe: isa", &chosen, error) : fd_isa_select(&chosen, error);
    if (status) return status;
    /* Results must go somewhere, or a compiler that sees both sides would leave out the work. */
    float sum;
    int32_t integer;
    switch (kind) {
    case FD_PROBE_FMA: *work = chosen->floats->probe_fma(rounds, &sum); return FD_OK;
    case FD_PROBE_DOT: *work = chosen->bytes->probe_dot(rounds, &integer); return FD_OK;
    case FD_PROBE_READ:
        chosen->floats->probe_read(memory, size, rounds);
        *work = (uint64_t)size * sizeof *memory * rounds;
        return FD_OK;
    }
    return fd_fail(error, FD_ERR_ARGUMENT, "fd_probe: kind is %d, which is unknown", (int)kind);
}
