/* The relay's clockwork, free of input and output: (time, frame length) -> release time or drop.
 *
 * A path is one direction of a link, a virtual clock over a first-in first-out ring of frames:
 *
 *     start = max(arrival, busy)         when the frame gets the link
 *     busy  = start + 8 * length / rate  when its last bit has been sent
 *     out   = max(busy + delay + jitter, last_out)
 *
 * What waits is counted in bytes; the frame in service no longer waits, and frames on the delay line
 * do not either. A frame that would make more than queue_bytes wait is dropped at the tail. Loss on
 * the air is drawn after the queue: a lost frame takes its time on the link and holds its place in
 * the ring until it would have arrived, but never delays a later frame's release.
 *
 * Times are int64 nanoseconds; the fraction of a nanosecond that a frame's last bit falls on is
 * carried to the next, so that a saturated path keeps its rate exactly. Loss and jitter draw from two
 * streams of their own, so that one does not shift the other.
 */
#ifndef FEDCELL_RELAY_CORE_H
#define FEDCELL_RELAY_CORE_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#define DROPPED_QUEUE (-1) /* the tail was full */
#define DROPPED_LOSS (-2)  /* will be lost on the air */
#define NO_MEMORY (-3)     /* the ring could not grow */

/* xoshiro256** (Blackman and Vigna 2018, public domain), seeded by splitmix64 as its authors advise. */
typedef struct {
    uint64_t s[4];
} rng_t;

static inline uint64_t splitmix64(uint64_t *state) {
    uint64_t z = (*state += 0x9e3779b97f4a7c15u);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

static void rng_seed(rng_t *rng, uint64_t seed) {
    for (int i = 0; i < 4; i++) rng->s[i] = splitmix64(&seed);
}

static inline uint64_t rotl(uint64_t x, int k) { return (x << k) | (x >> (64 - k)); }

static inline uint64_t rng_next(rng_t *rng) {
    uint64_t *s = rng->s, result = rotl(s[1] * 5, 7) * 9, t = s[1] << 17;
    s[2] ^= s[0];
    s[3] ^= s[1];
    s[1] ^= s[2];
    s[0] ^= s[3];
    s[2] ^= t;
    s[3] = rotl(s[3], 45);
    return result;
}

/* Uniform in [0, 1), all 53 bits of a double. */
static inline double rng_uniform(rng_t *rng) { return (double)(rng_next(rng) >> 11) * 0x1p-53; }

/* Standard normal by Box and Muller; one value a call keeps the stream's position plain. */
static inline double rng_normal(rng_t *rng) {
    double u = 1.0 - rng_uniform(rng), v = rng_uniform(rng); /* u in (0, 1]: the logarithm is finite */
    return sqrt(-2.0 * log(u)) * cos(2.0 * M_PI * v);
}

typedef struct {
    int64_t start, out; /* gets the link; leaves the path */
    uint32_t length;
    int lost;
    unsigned char *data; /* the frame itself; NULL in virtual time and for a lost frame */
} frame_t;

typedef struct {
    double ns_per_byte, delay_ns, jitter_ns, loss;
    int64_t queue_bytes;
    rng_t loss_rng, jitter_rng;
    int64_t busy, last_out;
    double busy_fraction;    /* of a nanosecond, in [0, 1) */
    int64_t waiting_bytes;   /* of frames whose start is still to come */
    frame_t *ring;           /* capacity is a power of two */
    size_t capacity;
    size_t head, serve, tail; /* running counts: next to leave, next to get the link, next to come */
} path_t;

static int path_init(path_t *path, double rate_bps, double delay_s, double jitter_s, double loss,
                     int64_t queue_bytes, uint64_t seed) {
    memset(path, 0, sizeof *path);
    path->ns_per_byte = 8e9 / rate_bps;
    path->delay_ns = delay_s * 1e9;
    path->jitter_ns = jitter_s * 1e9;
    path->loss = loss;
    path->queue_bytes = queue_bytes;
    path->busy = path->last_out = INT64_MIN / 2;
    uint64_t state = seed;
    rng_seed(&path->loss_rng, splitmix64(&state));
    rng_seed(&path->jitter_rng, splitmix64(&state));
    path->capacity = 256;
    path->ring = malloc(path->capacity * sizeof *path->ring);
    return path->ring ? 0 : -1;
}

static inline frame_t *path_at(const path_t *path, size_t count) {
    return &path->ring[count & (path->capacity - 1)];
}

static void path_free(path_t *path) {
    if (path->ring)
        for (; path->head != path->tail; path->head++) free(path_at(path, path->head)->data);
    free(path->ring);
    path->ring = NULL;
}

static int path_grow(path_t *path) {
    size_t capacity = path->capacity * 2;
    frame_t *ring = malloc(capacity * sizeof *ring);
    if (!ring) return -1;
    for (size_t i = path->head; i != path->tail; i++) ring[i & (capacity - 1)] = *path_at(path, i);
    free(path->ring);
    path->ring = ring;
    path->capacity = capacity;
    return 0;
}

/* Bytes that wait for the link at `now`. */
static inline int64_t path_waiting(path_t *path, int64_t now) {
    while (path->serve != path->tail && path_at(path, path->serve)->start <= now)
        path->waiting_bytes -= path_at(path, path->serve++)->length;
    return path->waiting_bytes;
}

/* Offer a frame at `now` (never before an earlier offer's).
 *
 * Returns its release time, DROPPED_QUEUE, DROPPED_LOSS or NO_MEMORY. Unless it was dropped at the
 * tail, the frame stands at the ring's end, lost or not. */
static int64_t path_offer(path_t *path, int64_t now, uint32_t length) {
    int idle = path->busy <= now;
    if (!idle && path_waiting(path, now) + length > path->queue_bytes) return DROPPED_QUEUE;
    if (idle) path_waiting(path, now);
    if (path->tail - path->head == path->capacity && path_grow(path)) return NO_MEMORY;

    int64_t start = idle ? now : path->busy;
    double service = length * path->ns_per_byte + (idle ? 0.0 : path->busy_fraction);
    double whole = floor(service);
    path->busy = start + (int64_t)whole;
    path->busy_fraction = service - whole;

    int lost = path->loss > 0.0 && rng_uniform(&path->loss_rng) < path->loss;
    int64_t out = path->busy;
    if (!lost) {
        double delay = path->delay_ns;
        if (path->jitter_ns > 0.0) delay += path->jitter_ns * rng_normal(&path->jitter_rng);
        if (delay > 0.0) out += (int64_t)(delay + path->busy_fraction + 0.5);
        if (out < path->last_out) out = path->last_out;
        path->last_out = out;
    } else if (out < path->last_out) {
        out = path->last_out; /* the ring stays sorted; last_out does not move: nobody waits for the lost */
    }
    *path_at(path, path->tail++) = (frame_t){start, out, length, lost, NULL};
    path->waiting_bytes += length;
    path_waiting(path, now);
    return lost ? DROPPED_LOSS : out;
}

/* The next frame to leave, or NULL. */
static inline frame_t *path_head(path_t *path) {
    return path->head == path->tail ? NULL : path_at(path, path->head);
}

/* Take the head off. A frame leaves no sooner than it got the link, so it has long ceased to wait. */
static inline void path_pop(path_t *path) {
    if (path->serve == path->head) path->waiting_bytes -= path_at(path, path->serve++)->length;
    path->head++;
}

#endif
