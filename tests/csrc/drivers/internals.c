/* internals
 *
 * Of what the library keeps to itself, what no file and no call can reach today: sums and products at the edge of their
 * types, held to 128 bits, and opcodes that there are not.
 */
#include "base/memory.h"
#include "driver.h"
#include "format/format.h"
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

int main(void) {
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
