#include "model/gain.h"

int fd_gain_expected(fd_gain *gain) {
    if (FD_GAIN_LOSSES == 0) return 1;
    if (gain->rest) {
        gain->rest--;
        return 0;
    }
    if (gain->alone && gain->gains < FD_GAIN_AGAIN) return 1;
    gain->rest = gain->alone ? 0 : FD_GAIN_FIRST - 1;
    return 0;
}

void fd_gain_learn(fd_gain *gain, int shared, uint64_t took) {
    if (!shared) {
        /* One that was interrupted says little of those to come. */
        const uint64_t most = gain->alone + gain->alone / 8;
        gain->alone = gain->alone && took > most ? most : took;
        gain->gains = 0;
        return;
    }
    gain->spent += took;
    const int lost = gain->spent / FD_GAIN_TRIAL >= gain->alone;
    if (++gain->tried < FD_GAIN_TRIAL && !lost) return;
    if (!lost) {
        gain->losses = 0;
        gain->gains += FD_GAIN_TRIAL;
    } else {
        if (gain->losses + 1 <= FD_GAIN_LOSSES) gain->losses++;
        gain->rest = ((1u << gain->losses) - 1) * FD_GAIN_TRIAL;
    }
    gain->spent = gain->tried = 0;
}
