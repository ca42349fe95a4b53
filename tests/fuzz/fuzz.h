/* libFuzzer's interface, which targets and mutators define and replay.c calls as libFuzzer would. */
#ifndef FD_FUZZ_H
#define FD_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t max_size);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t max_size, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *data, size_t size, const uint8_t *other, size_t other_size,
                                 uint8_t *out, size_t max_size, unsigned seed);

/* What became of a model file. */
typedef enum { FD_FUZZ_REFUSED, FD_FUZZ_LIMITED, FD_FUZZ_RAN, FD_FUZZ_ENDS } fd_fuzz_end;
fd_fuzz_end fd_fuzz_model(const uint8_t *data, size_t size);

#endif
