/* Streams of random numbers: one for every thing that chance decides, so that none shifts another. */
#ifndef FEDCELL_RELAY_RANDOM_H
#define FEDCELL_RELAY_RANDOM_H

#include <math.h>
#include <stdint.h>

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

/* A stream of its own for every (seed, number). */
static void rng_seed(rng_t *rng, uint64_t seed, uint64_t number) {
    uint64_t state = seed;
    for (uint64_t i = 0; i <= number; i++) seed = splitmix64(&state);
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

/* True with `probability`; a probability of 0 draws nothing. */
static inline int rng_happens(rng_t *rng, double probability) {
    return probability > 0.0 && rng_uniform(rng) < probability;
}

/* Standard normal by Box and Muller (1958); one value a call keeps the stream's position plain. */
static inline double rng_normal(rng_t *rng) {
    double u = 1.0 - rng_uniform(rng), v = rng_uniform(rng); /* u in (0, 1]: the logarithm is finite */
    return sqrt(-2.0 * log(u)) * cos(2.0 * M_PI * v);
}

/* Exponential of mean 1. */
static inline double rng_exponential(rng_t *rng) { return -log(1.0 - rng_uniform(rng)); }

/* From quantiles at equal steps of probability: the inverse distribution function, straight between them. */
static inline double rng_quantile(rng_t *rng, const double *table, size_t size) {
    double x = rng_uniform(rng) * (double)(size - 1);
    size_t i = (size_t)x;
    return table[i] + (x - (double)i) * (table[i + 1] - table[i]);
}

#endif
