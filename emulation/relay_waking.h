/* How early the relay is woken for a frame, so that it need not be late and does not spin without end.
 *
 * A wake-up comes some microseconds late, and now and then many. Woken earlier, the relay spins the rest
 * away; every microsecond of that is taken from the programs under test. Where frames follow each other so
 * closely that the next is always about to be due, it would spin all the time, and a kernel stops what runs
 * in real time for 50 ms in every second of which it has had 95 % (sched(7), sched_rt_runtime_us). So time
 * awake is paid for with time asleep: a relay without credit is woken just early enough for the half, and
 * one that is in debt no earlier than the frame is due.
 */
#ifndef FEDCELL_RELAY_WAKING_H
#define FEDCELL_RELAY_WAKING_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>

#define LEAD_MAX_NS 120000.0
#define QUANTILE_STEP_NS 1000.0
#define RARELY 0.006            /* the share of wake-ups that may make frames later than is tolerated: */
#define TOLERATED_NS 60000.0    /* 60 us, or 3 % of a frame's time; relay.py's limits are 100 us and 5 %, for 1 % */
#define SELDOM 0.03             /* the share that may come later than keeps frames regular: 3 % of a frame's time. */
#define REGULAR 0.03            /* Each spoils two gaps, of which nine in ten must be within 5 % (gates.py). */
#define AWAKE_SHARE 0.8         /* of the time, unless carrying alone takes more */
#define CREDIT_MAX_NS 2e7       /* so long at a stretch; as much debt at most */

typedef struct {
    double typical_ns, seldom_ns, rare_ns; /* how late wake-ups come: the median, all but SELDOM, all but RARELY */
    double regular_ns, tolerated_ns;
    double credit_ns; /* what could be spent awake at `since` */
    int64_t since;    /* the last wake-up */
} waking_t;

/* Spin no more than the fastest link needs. */
static inline void waking_tolerate(waking_t *w, double frame_s) {
    w->regular_ns = REGULAR * 1e9 * frame_s;
    w->tolerated_ns = fmax(TOLERATED_NS, 0.03e9 * frame_s);
}

/* Let an estimate of a quantile follow what was seen (stochastic approximation, Robbins and Monro 1951):
 * up by a step's share `q` after a value above it, down by the rest of the step after others. */
static inline void follow(double *estimate, double seen, double q) {
    *estimate += seen > *estimate ? QUANTILE_STEP_NS * q : -QUANTILE_STEP_NS * (1 - q);
}

/* The timer woke us `late` after its time. */
static inline void waking_late(waking_t *w, int64_t late) {
    follow(&w->typical_ns, (double)late, 0.5);
    follow(&w->seldom_ns, (double)late, 1 - SELDOM);
    follow(&w->rare_ns, (double)late, 1 - RARELY);
}

/* Asleep from `from` to `to`, and awake before that. */
static inline void waking_slept(waking_t *w, int64_t from, int64_t to) {
    double earned = (double)(to - from) * AWAKE_SHARE / (1 - AWAKE_SHARE);
    w->credit_ns = fmin(w->credit_ns - (double)(from - w->since) + earned, CREDIT_MAX_NS);
    w->since = to;
}

/* How long before its time to be woken for a frame: so long that half of them can be met exactly, and,
 * while there is credit for it, that all but few are no later than is tolerated. */
static inline int64_t waking_lead(const waking_t *w, int64_t now) {
    double left = w->credit_ns - (double)(now - w->since);
    if (left < -CREDIT_MAX_NS) return 0;
    double careful = left < 0 ? 0.0 : fmax(w->seldom_ns - w->regular_ns, w->rare_ns - w->tolerated_ns);
    return (int64_t)fmin(fmax(fmax(w->typical_ns, careful), 0.0), LEAD_MAX_NS);
}

#endif
