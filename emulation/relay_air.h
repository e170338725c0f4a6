/* What becomes of a frame once its last bit is sent: lost, or doubled or damaged, and on its way a while.
 *
 *     out = max(sent + delay + jitter, the out before it)
 *
 * Each decision draws from a stream of its own.
 */
#ifndef FEDCELL_RELAY_AIR_H
#define FEDCELL_RELAY_AIR_H

#include "relay_queue.h"
#include "relay_random.h"

#define ETHERNET_HEADER 14

/* A time: whole nanoseconds, and the fraction of one in [0, 1) without which a busy link's rate would drift. */
typedef struct {
    int64_t ns;
    double fraction;
} instant_t;

static inline instant_t instant_after(instant_t t, double ns) {
    double sum = t.fraction + ns, whole = floor(sum);
    return (instant_t){t.ns + (int64_t)whole, sum - whole};
}

static inline double instant_since(instant_t later, instant_t earlier) {
    return (double)(later.ns - earlier.ns) + (later.fraction - earlier.fraction);
}

typedef struct {
    double loss, loss_burst, duplicate, corrupt, delay_ns, jitter_ns;
    const double *jitter_table; /* quantiles in standard deviations; NULL: normal */
    size_t jitter_table_size;
    bool bad; /* the state of the Gilbert-Elliott chain */
    rng_t loss_rng, duplicate_rng, corrupt_rng, jitter_rng;
    int64_t last_out;
    ring_t line; /* what is on its way, in the order of leaving */
} air_t;

/* Is the next frame lost? Independently of the others, or by a chain of two states, good and bad, whose
 * steps are frames: it stays bad for loss_burst of them on average, r = 1 / burst, and bad is a share
 * `loss` of them, p = r * loss / (1 - loss) (Gilbert 1960; Elliott 1963). */
static bool air_loses(air_t *air) {
    if (air->loss_burst <= 1.0) return rng_happens(&air->loss_rng, air->loss);
    if (air->loss <= 0.0) return air->bad = false;
    double r = 1.0 / air->loss_burst, p = r * air->loss / (1.0 - air->loss);
    bool turns = rng_uniform(&air->loss_rng) < (air->bad ? r : p);
    return air->bad ^= turns;
}

/* One bit after the Ethernet header of a frame of `length` bytes, or 0. */
static inline uint32_t air_flip(air_t *air, uint32_t length) {
    if (!rng_happens(&air->corrupt_rng, air->corrupt) || length <= ETHERNET_HEADER) return 0;
    double bits = 8.0 * (length - ETHERNET_HEADER);
    return 8 * ETHERNET_HEADER + (uint32_t)(rng_uniform(&air->corrupt_rng) * bits);
}

/* Put a frame sent at `sent` on the delay line, to leave with its duplicate, if any. False: no memory. */
static bool air_carry(air_t *air, frame_t frame, instant_t sent) {
    double delay = air->delay_ns;
    if (air->jitter_ns > 0.0)
        delay += air->jitter_ns * (air->jitter_table ? rng_quantile(&air->jitter_rng, air->jitter_table,
                                                                    air->jitter_table_size)
                                                     : rng_normal(&air->jitter_rng));
    frame.at = sent.ns;
    if (delay > 0.0) frame.at += (int64_t)(delay + sent.fraction + 0.5);
    if (frame.at < air->last_out) frame.at = air->last_out;
    air->last_out = frame.at;
    frame.flip = air_flip(air, frame.length);
    frame.duplicated = rng_happens(&air->duplicate_rng, air->duplicate);
    frame.flip_copy = frame.duplicated ? air_flip(air, frame.length) : 0;
    return ring_push(&air->line, &frame);
}

#endif
