/* What a path has carried and dropped, and how late its frames left, as a histogram. */
#ifndef FEDCELL_RELAY_COUNTERS_H
#define FEDCELL_RELAY_COUNTERS_H

#include <stdint.h>

#define HELD_UP_NS 100000 /* awake, and not running for that long: the machine's doing */
#define SUB_BITS 4 /* 16 bins an octave, so a quantile is known to 1/16 */
#define BINS 528   /* up to 2^36 ns, more than a minute */

/* The answer to a question for one path's counters; relay.py unpacks it in this order. */
typedef struct {
    uint64_t offered_frames, offered_bytes, delivered_frames, delivered_bytes;
    uint64_t drops_queue, drops_aqm, drops_loss, drops_write, drops_oversize;
    uint64_t duplicated, corrupted;
    uint64_t lateness_max_ns;
    uint64_t lateness[BINS];
} counters_t;

/* Bins of equal width 1 below 2^SUB_BITS, then 2^SUB_BITS an octave. */
static inline unsigned bin_of(uint64_t ns) {
    if (ns < 1u << SUB_BITS) return (unsigned)ns;
    unsigned exponent = 63 - (unsigned)__builtin_clzll(ns) - SUB_BITS;
    unsigned bin = (exponent << SUB_BITS) + (unsigned)(ns >> exponent);
    return bin < BINS ? bin : BINS - 1;
}

static inline void count_lateness(counters_t *count, uint64_t late) {
    count->lateness[bin_of(late)]++;
    if (late > count->lateness_max_ns) count->lateness_max_ns = late;
}

/* How the machine treats the relay, for who asks why it was late. */
typedef struct {
    uint64_t wakes, late_wakes, wake_max_ns;   /* by the timer, and more than HELD_UP_NS after its time */
    uint64_t holdups, holdup_ns, holdup_max_ns; /* between two looks at the clock while awake */
} machine_t;

#endif
