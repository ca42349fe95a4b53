/* internals
 *
 * Of what the library keeps to itself, what no file and no call can reach today: sums and products at the edge of their
 * types, held to 128 bits, opcodes that there are not, and when threads share an image.
 */
#include "base/memory.h"
#include "driver.h"
#include "format/format.h"
#include "model/gain.h"
#include "ops/ops.h"

__extension__ typedef unsigned __int128 wide;

static void arithmetic(uint64_t a, uint64_t b) {
    const wide sum = (wide)a + b, product = (wide)a * b;
    const uint64_t most = UINT64_MAX;
    if (fd_add_capped(a, b) != (sum > most ? most : (uint64_t)sum)) DIE("%llx + %llx", (long long)a, (long long)b);
    if (fd_mul_capped(a, b) != (product > most ? most : (uint64_t)product))
        DIE("%llx * %llx", (long long)a, (long long)b);
    size_t out;
    if (fd_add((size_t)a, (size_t)b, &out) != ((wide)(size_t)a + (size_t)b <= SIZE_MAX)) DIE("fd_add");
    if (fd_mul((size_t)a, (size_t)b, &out) != ((wide)(size_t)a * (size_t)b <= SIZE_MAX)) DIE("fd_mul");
    if (fd_min((size_t)a, (size_t)b) > (size_t)a || fd_min((size_t)a, (size_t)b) > (size_t)b) DIE("fd_min");
}

/* Of `images`, how many are shared that take so long alone and in threads. */
static unsigned shared_of(fd_gain *gain, unsigned images, uint64_t alone, uint64_t threads) {
    unsigned shared = 0;
    for (unsigned i = 0; i < images; i++) {
        const int expected = fd_gain_expected(gain);
        fd_gain_learn(gain, expected, expected ? threads : alone);
        shared += (unsigned)expected;
    }
    return shared;
}

static void gains(void) {
    enum { IMAGES = 6500 };
    fd_gain gain = {0};
    if (shared_of(&gain, FD_GAIN_FIRST, 100, 60)) DIE("the first images are shared");
    if (shared_of(&gain, FD_GAIN_AGAIN, 100, 60) != FD_GAIN_AGAIN) DIE("not all are shared that gain");
    if (shared_of(&gain, 1, 100, 60)) DIE("it is never seen again what one takes alone");
    /* While the other CPUs are busy, as good as none; and again when they are not. */
    if (shared_of(&gain, IMAGES, 100, 150) > IMAGES / (1 << FD_GAIN_LOSSES) + FD_GAIN_TRIAL * (FD_GAIN_LOSSES + 1))
        DIE("too many are shared that lose");
    shared_of(&gain, FD_GAIN_TRIAL << FD_GAIN_LOSSES, 100, 60);
    const unsigned again = shared_of(&gain, IMAGES, 100, 60);
    if (again < IMAGES - IMAGES / FD_GAIN_AGAIN - 1) DIE("only %u of %d are shared again", again, IMAGES);
    /* A machine that is twice as slow, and one interruption. */
    if (shared_of(&gain, IMAGES, 200, 120) < IMAGES / 2) DIE("too few are shared of a slower machine");
    if (shared_of(&gain, IMAGES, 200, 1000) > 2 * (IMAGES / (FD_GAIN_TRIAL << FD_GAIN_LOSSES) + FD_GAIN_LOSSES + 1))
        DIE("a trial goes on that is lost");
    fd_gain_learn(&gain, 0, 1000000);
    if (gain.alone > 250) DIE("one interruption counts for %llu", (unsigned long long)gain.alone);
}

int main(void) {
    gains();
    static const uint64_t edges[] = {
        0, 1, 2, 3, UINT32_MAX, 1ULL << 32, 1ULL << 63, UINT64_MAX / 3, UINT64_MAX - 1, UINT64_MAX};
    enum { EDGES = sizeof edges / sizeof *edges };
    for (int i = 0; i < EDGES; i++)
        for (int k = 0; k < EDGES; k++) arithmetic(edges[i], edges[k]);
    for (uint32_t opcode = 0; opcode < FD_OP_END + 2; opcode++) {
        const int is_one = opcode > 0 && opcode < FD_OP_END;
        if ((fd_operator_of(opcode) != NULL) != is_one || (fd_operator_name(opcode) != NULL) != is_one)
            DIE("opcode %u", opcode);
    }
    if (fd_operator_of(UINT32_MAX) || fd_operator_name(UINT32_MAX)) DIE("an operator of no opcode");
    return 0;
}
