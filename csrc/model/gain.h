/* Whether threads gain by sharing an image that is alone in its call.
 *
 * That depends on what else the machine does: where its other CPUs are busy, a thread that is woken comes late, or is
 * away in the middle of its share. So a context compares what its images take, and whatever comes of it, the bits are
 * the same. */
#ifndef FD_MODEL_GAIN_H
#define FD_MODEL_GAIN_H

#include <stdint.h>

/* The first images are one thread's; the next ones are shared, and FD_GAIN_TRIAL of them one after the other are
 * compared with as many alone, because a CPU that has slept for long takes long to wake. After a trial that was lost
 * come as many images that one thread takes; after two, three times as many; at last 2^FD_GAIN_LOSSES - 1 times. Of
 * those that gain, one in FD_GAIN_AGAIN is taken alone, to see what it takes now. Tests that want all of them shared
 * have 0 losses. */
#ifndef FD_GAIN_LOSSES
#define FD_GAIN_LOSSES 6
#endif
enum { FD_GAIN_FIRST = 2, FD_GAIN_TRIAL = 8, FD_GAIN_AGAIN = 64 };

/* What a context has seen, all zeros at first. */
typedef struct fd_gain {
    uint64_t alone;  /* nanoseconds that an image takes in one thread, about; 0: not known */
    uint64_t spent;  /* nanoseconds of a trial, */
    unsigned tried;  /* which has had so many images */
    unsigned rest;   /* images to come that one thread is to take */
    unsigned losses; /* how many trials were lost, one after the other; as many as count */
    unsigned gains;  /* images of trials that were won since one was taken alone */
} fd_gain;

/* Whether the next image is for several threads. */
int fd_gain_expected(fd_gain *gain);

/* What it took, in nanoseconds, shared or not. */
void fd_gain_learn(fd_gain *gain, int shared, uint64_t took);

#endif
