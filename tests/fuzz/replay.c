/* replay ROUNDS SEED MODEL.fdm...
 *
 * A target where there is no libFuzzer: each file as it is, then ROUNDS times changed by the mutator, the same way for
 * the same seed. Prints a line for each file: how many of those were refused, refused by a limit, and run.
 */
#include "../csrc/drivers/driver.h"
#include "fuzz.h"

int main(int argc, char **argv) {
    if (argc < 4) DIE("usage: replay ROUNDS SEED MODEL.fdm...");
    const unsigned rounds = (unsigned)strtoul(argv[1], NULL, 10), seed = (unsigned)strtoul(argv[2], NULL, 10);
    for (int i = 3; i < argc; i++) {
        size_t size, ends[FD_FUZZ_ENDS] = {0};
        unsigned char *const good = read_file(argv[i], &size);
        (void)LLVMFuzzerTestOneInput(good, size);
        for (unsigned round = 0; round < rounds; round++) {
            unsigned char *const changed = exactly(size);
            memcpy(changed, good, size);
            const size_t left = LLVMFuzzerCustomMutator(changed, size, size, seed + round);
            unsigned char *const file = exactly(left); /* so that a sanitizer sees its end */
            memcpy(file, changed, left);
            ends[fd_fuzz_model(file, left)]++;
            free(changed);
            free(file);
        }
        free(good);
        printf("%zu %zu %zu\n", ends[FD_FUZZ_REFUSED], ends[FD_FUZZ_LIMITED], ends[FD_FUZZ_RAN]);
    }
    return 0;
}
