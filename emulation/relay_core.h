/* The relay's clockwork, free of input and output: frames and times in, frames and times out.
 *
 *     offer -> queue -> server -> air -> delay line -> out
 *     (relay_queue.h)            (relay_air.h)
 *
 * A path is one direction of a link: a queue, its air and its delay line. A server sends the frames of
 * one path, or of several that share the air, one at a time; a path may move to another server and leave
 * its own without any. Everything that is decided (the next frame taken, its last bit sent, an outage) has
 * a virtual time of its own and is decided in the order of those times, by server_advance, before whatever
 * is done to the server later. So it does not matter how late that is called: the schedule comes out as if
 * it had been called at every instant.
 *
 * Two frames of 1250 bytes at 0 ms, at 1 Mbit/s and with 20 ms of delay: a frame takes 10 ms.
 *
 *      0 ms  offer A: the server is idle and takes it     queue: -      finish 10 ms
 *      0 ms  offer B: waits                               queue: B
 *      4 ms  change to 0.5 Mbit/s: of A's 10 000 bits 4 000 are sent, 6 000 take 12 ms: finish 16 ms
 *     16 ms  A is sent and leaves at 36 ms; B is taken    queue: -      finish 36 ms
 *     36 ms  B is sent and leaves at 56 ms
 *
 * Times are int64 nanoseconds, with a fraction where a frame's last bit falls. What falls within a
 * nanosecond has happened at it, and before what comes from outside at the same one.
 */
#ifndef FEDCELL_RELAY_CORE_H
#define FEDCELL_RELAY_CORE_H

#include "relay_air.h"
#include "relay_queue.h"
#include "relay_random.h"
#include "relay_trace.h"

#define NEVER INT64_MAX
#define FAIR_TIME_NS 1e9 /* proportional fairness looks about a second back; 1000 slots of 1.67 ms in CDMA-HDR */

typedef enum { ROUND_ROBIN, PROPORTIONAL_FAIR } scheduler_t;
typedef enum { DROPPED_QUEUE, DROPPED_AQM, DROPPED_LOSS } fate_t;
typedef struct server server_t;

typedef struct {
    server_t *server;
    void *owner; /* whoever uses the clockwork keeps his own here */
    queue_t queue;
    air_t air;
    double rate_bps;
    frame_t frame;    /* in service, also while others are sent or the link is down */
    bool sending;     /* there is one */
    double left_bits; /* of it */
    bool off;         /* down by a change */
    bool out;         /* down by an outage */
    double mean_up_ns, mean_down_ns;
    int64_t toggle;        /* when the next outage begins or ends */
    double airtime_ns;     /* what it has had, as round robin counts */
    double throughput_bps; /* lately, as proportional fairness counts */
    rng_t outage_rng;
} path_t;

struct server {
    path_t **paths;
    size_t size, turn; /* of the paths; whose turn it is among equals */
    scheduler_t scheduler;
    path_t *serving;         /* whose frame is being sent */
    instant_t clock, finish; /* until when the books are kept; when that frame's last bit will be sent */
    double airtime_ns;       /* of the path in service, when it was taken */
    int64_t toggle;          /* the earliest of the paths' */
    int64_t least_delay_ns;  /* nothing leaves sooner after it was sent */
    trace_t trace;           /* in place of a rate; only for a single path */
    bool no_memory;          /* a frame had to be given up */
    void (*ended)(path_t *path, const frame_t *frame, int64_t when, fate_t fate);
};

/* Up, and with something to send. */
static inline bool path_ready(const path_t *path) {
    return !path->off && !path->out && (path->sending || !ring_empty(&path->queue.ring));
}

/* --- The books: what the frame in service has had of the link ------------------------------------- */

static void server_account(server_t *server, instant_t now) {
    double elapsed = instant_since(now, server->clock);
    path_t *path = server->serving;
    server->clock = now;
    if (path) {
        path->left_bits -= elapsed * path->rate_bps / 1e9;
        path->airtime_ns += elapsed;
    }
    if (server->scheduler == PROPORTIONAL_FAIR) {
        double kept = exp(-elapsed / FAIR_TIME_NS);
        for (size_t i = 0; i < server->size; i++) server->paths[i]->throughput_bps *= kept;
        if (path) path->throughput_bps += (1.0 - kept) * path->rate_bps;
    }
}

static inline void server_set_finish(server_t *server) {
    path_t *path = server->serving;
    server->finish = instant_after(server->clock, path->left_bits * 1e9 / path->rate_bps);
}

/* --- A frame's way -------------------------------------------------------------------------------- */

static void path_drop_aqm(void *owner, const frame_t *frame) {
    path_t *path = owner;
    path->server->ended(path, frame, path->server->clock.ns, DROPPED_AQM);
}

/* Take the next frame into service; false if none waits. */
static bool path_take(path_t *path) {
    if (!queue_take(&path->queue, path->server->clock.ns, &path->frame, path_drop_aqm, path)) return false;
    path->sending = true;
    path->left_bits = 8.0 * path->frame.length;
    return true;
}

/* Its last bit is sent. A lost frame took its time on the link, and delays nobody further. */
static void path_sent(path_t *path) {
    server_t *server = path->server;
    path->sending = false;
    if (air_loses(&path->air))
        server->ended(path, &path->frame, server->clock.ns, DROPPED_LOSS);
    else if (!air_carry(&path->air, path->frame, server->clock))
        server->no_memory = true;
}

/* --- Whose turn it is ------------------------------------------------------------------------------
 *
 * Round robin in airtime is start-time fair queueing (Goyal, Vin and Cheng 1997): who has had the least
 * airtime is next, and who comes back from a pause counts as having had what the one in service has, so
 * that nobody saves up. Among those with a backlog shares differ by a frame's time at most. (Deficit
 * round robin gives the same shares in the long run, but its quantum must be the slowest member's
 * frame: at 100 kbit/s everyone else would get bursts of 120 ms.)
 *
 * Proportional fairness takes the best rate against the throughput of late, a moving average over about
 * a second of the clock (Jalali, Padovani and Pankaj 2000; Viswanath, Tse and Laroia 2002).
 */
static double path_merit(const path_t *path) {
    return path->server->scheduler == ROUND_ROBIN ? -path->airtime_ns
                                                  : path->rate_bps / fmax(path->throughput_bps, 1.0);
}

/* Give the idle link at `clock` to whom it is due. */
static void server_pick(server_t *server) {
    path_t *best = NULL;
    double best_merit = 0.0;
    size_t after_best = 0;
    for (size_t n = 0, i = server->turn; n < server->size; n++, i++) {
        if (i >= server->size) i = 0;
        path_t *path = server->paths[i];
        if (!path_ready(path)) continue;
        double merit = path_merit(path);
        if (!best || merit > best_merit) {
            best = path;
            best_merit = merit;
            after_best = i + 1;
        }
    }
    server->serving = best;
    if (best) {
        server->turn = after_best;
        server->airtime_ns = best->airtime_ns;
        if (!best->sending) path_take(best);
        server_set_finish(server);
    } else { /* the end of a busy time: all are even again */
        for (size_t i = 0; i < server->size; i++)
            server->airtime_ns = fmax(server->airtime_ns, server->paths[i]->airtime_ns);
    }
}

/* One opportunity of a trace: the bytes of a full frame, for as much of as many frames as they are enough. */
static void server_deliver(server_t *server) {
    path_t *path = server->paths[0];
    server->clock = (instant_t){trace_at(&server->trace), 0.0};
    trace_step(&server->trace);
    double credit_bits = 8.0 * FRAME_BYTES;
    while (credit_bits > 0.0 && (path->sending || path_take(path))) {
        double bits = fmin(credit_bits, path->left_bits);
        credit_bits -= bits;
        path->left_bits -= bits;
        if (path->left_bits == 0.0) path_sent(path);
    }
}

/* --- Time ----------------------------------------------------------------------------------------- */

/* When the server will have something to decide about frames. */
static inline int64_t server_decision(const server_t *server) {
    if (server->trace.instants) return path_ready(server->paths[0]) ? trace_at(&server->trace) : NEVER;
    return server->serving ? server->finish.ns : NEVER;
}

/* A path starts to wait for the link at `clock`: it had nothing to send, or was down. */
static void path_joins(path_t *path) {
    server_t *server = path->server;
    if (server->trace.instants) return trace_skip(&server->trace, server->clock.ns);
    path->airtime_ns = fmax(path->airtime_ns, server->airtime_ns);
    if (!server->serving) server_pick(server);
}

/* A path went down or came up at `clock`, or both and neither. */
static void path_switched(path_t *path) {
    server_t *server = path->server;
    if (!path->off && !path->out) {
        if (server->serving != path) path_joins(path);
    } else if (server->serving == path) {
        server_pick(server); /* its frame keeps what is left of it */
    }
}

static void server_set_toggle(server_t *server) {
    server->toggle = NEVER;
    for (size_t i = 0; i < server->size; i++)
        if (server->paths[i]->toggle < server->toggle) server->toggle = server->paths[i]->toggle;
}

/* The next outage begins, or ends. */
static void path_set_toggle(path_t *path, int64_t now) {
    double mean = path->out ? path->mean_down_ns : path->mean_up_ns;
    path->toggle = now + 1 + (int64_t)fmin(mean * rng_exponential(&path->outage_rng), 1e18);
}

static void server_toggle(server_t *server) {
    int64_t now = server->toggle;
    server_account(server, (instant_t){now, 0.0});
    for (size_t i = 0; i < server->size; i++) {
        path_t *path = server->paths[i];
        if (path->toggle != now) continue;
        path->out = !path->out;
        path_set_toggle(path, now);
        path_switched(path);
    }
    server_set_toggle(server);
}

/* Decide everything up to `now`. */
static void server_advance(server_t *server, int64_t now) {
    for (;;) {
        int64_t decision = server_decision(server);
        if (decision > now && server->toggle > now) return;
        if (server->toggle < decision) {
            server_toggle(server);
        } else if (server->trace.instants) {
            server_deliver(server);
        } else {
            server_account(server, server->finish);
            path_sent(server->serving);
            server->serving = NULL;
            server_pick(server);
        }
    }
}

/* The earliest time at which a frame may leave, or something be decided that bears on it. Calling
 * server_advance then, and looking at the delay lines, is soon enough. */
static int64_t server_next(const server_t *server) {
    int64_t next = server_decision(server);
    if (next != NEVER) next += server->least_delay_ns;
    if (server->toggle < next) next = server->toggle;
    for (size_t i = 0; i < server->size; i++) {
        const ring_t *line = &server->paths[i]->air.line;
        if (!ring_empty(line) && ring_head(line)->at < next) next = ring_head(line)->at;
    }
    return next;
}

/* --- What comes from outside ------------------------------------------------------------------------ */

/* Offer a frame at `now`, never before an earlier call's. */
static void path_offer(path_t *path, int64_t now, uint32_t length, void *data) {
    server_t *server = path->server;
    frame_t frame = {.data = data, .at = now, .length = length};
    server_advance(server, now);
    if (!queue_has_room(&path->queue, length)) return server->ended(path, &frame, now, DROPPED_QUEUE);
    bool was_ready = path_ready(path);
    if (!queue_push(&path->queue, &frame)) {
        server->no_memory = true;
    } else if (!was_ready && path_ready(path)) {
        if (!server->serving) server_account(server, (instant_t){now, 0.0});
        path_joins(path);
    }
}

/* What is to change; NaN, and a negative `up`, stay as they are. Also the message that asks for it. */
typedef struct {
    double rate_bps, delay_s, loss, up;
} change_t;

static void server_set_least_delay(server_t *server) {
    double least = 1e18;
    for (size_t i = 0; i < server->size; i++) {
        const air_t *air = &server->paths[i]->air;
        least = fmin(least, air->jitter_ns > 0.0 ? 0.0 : air->delay_ns);
    }
    server->least_delay_ns = (int64_t)least;
}

static void path_change(path_t *path, int64_t now, const change_t *change) {
    server_t *server = path->server;
    server_advance(server, now);
    server_account(server, (instant_t){now, 0.0});
    if (!isnan(change->rate_bps)) path->rate_bps = change->rate_bps;
    if (!isnan(change->delay_s)) path->air.delay_ns = change->delay_s * 1e9;
    if (!isnan(change->loss)) path->air.loss = change->loss;
    server_set_least_delay(server);
    if (server->serving) server_set_finish(server);
    if (!isnan(change->up) && path->off != (change->up == 0.0)) {
        path->off = change->up == 0.0;
        path_switched(path);
    }
}

/* --- Who shares whose air --------------------------------------------------------------------------- */

/* One path more. False: no memory. */
static bool server_admit(server_t *server, path_t *path) {
    path_t **paths = realloc(server->paths, (server->size + 1) * sizeof *paths);
    if (!paths) return false;
    server->paths = paths;
    paths[server->size++] = path;
    path->server = server;
    return true;
}

static void server_dismiss(server_t *server, const path_t *path) {
    size_t i = 0;
    while (server->paths[i] != path) i++;
    if (server->turn > i) server->turn--;
    for (server->size--; i < server->size; i++) server->paths[i] = server->paths[i + 1];
    if (server->serving == path) server_pick(server);
}

/* Move a path to another server, neither with a trace. Its queue, what is left of its frame, its delay line
 * and its throughput of late go with it; of airtime it counts as having had what the one in service there
 * has, like one who was silent. */
static void path_move(path_t *path, int64_t now, server_t *to) {
    server_t *both[] = {path->server, to};
    if (path->server == to) return;
    for (int i = 0; i < 2; i++) {
        server_advance(both[i], now);
        server_account(both[i], (instant_t){now, 0.0});
    }
    if (!server_admit(to, path)) {
        to->no_memory = true;
        return;
    }
    server_dismiss(both[0], path);
    path->airtime_ns = to->airtime_ns;
    path_joins(path);
    for (int i = 0; i < 2; i++) {
        server_set_toggle(both[i]);
        server_set_least_delay(both[i]);
    }
}

/* --- Beginning and end ------------------------------------------------------------------------------ */

/* A ring for that many bytes of frames of medium size; it grows if they are small. */
static bool ring_start(ring_t *ring, double bytes) {
    size_t capacity = 64;
    while (capacity < 1 << 15 && (double)capacity < bytes / 512) capacity *= 2;
    return ring_reserve(ring, capacity);
}

/* Complete a path whose parameters are set and the rest is zero, and stand it on a server. False: no memory. */
static bool path_start(path_t *path, server_t *server, uint64_t seed, int64_t now) {
    rng_t *streams[] = {&path->air.loss_rng, &path->air.jitter_rng, &path->air.duplicate_rng,
                        &path->air.corrupt_rng, &path->outage_rng};
    for (size_t i = 0; i < sizeof streams / sizeof *streams; i++) rng_seed(streams[i], seed, i);
    path->air.last_out = INT64_MIN;
    path->toggle = NEVER;
    if (path->mean_up_ns > 0.0) path_set_toggle(path, now);
    return server_admit(server, path) &&
           ring_start(&path->queue.ring, (double)path->queue.limit_bytes) &&
           ring_start(&path->air.line, path->rate_bps * path->air.delay_ns * 1e-9 / 8);
}

/* Complete a server whose paths are started. */
static void server_start(server_t *server, int64_t now) {
    server->clock.ns = server->trace.start = server->trace.base = now;
    server_set_toggle(server);
    server_set_least_delay(server);
}

static void path_free(path_t *path) {
    free(path->queue.ring.frames);
    free(path->air.line.frames);
}

#endif
