/* Delivery traces in place of a rate (Winstein and Netravali's Mahimahi, link_queue.cc): instants at which
 * a full frame's bytes may leave, again and again; what nobody waits for is wasted. */
#ifndef FEDCELL_RELAY_TRACE_H
#define FEDCELL_RELAY_TRACE_H

#include <stddef.h>
#include <stdint.h>

typedef struct {
    const int64_t *instants; /* ascending, in ns; the last is the period. NULL: no trace */
    size_t size, next;
    int64_t start, base; /* when it began at all, and this time round */
} trace_t;

static inline int64_t trace_at(const trace_t *trace) { return trace->base + trace->instants[trace->next]; }

static void trace_step(trace_t *trace) {
    if (++trace->next == trace->size) {
        trace->base += trace->instants[trace->size - 1];
        trace->next = 0;
    }
}

/* Let the opportunities up to `now`, which nobody waited for, go by. */
static void trace_skip(trace_t *trace, int64_t now) {
    if (trace_at(trace) > now) return;
    int64_t period = trace->instants[trace->size - 1];
    trace->base = now - (now - trace->start) % period;
    size_t low = 0, high = trace->size - 1; /* the last is the period: never before `now` */
    while (low < high) {
        size_t middle = (low + high) / 2;
        if (trace->base + trace->instants[middle] > now)
            high = middle;
        else
            low = middle + 1;
    }
    trace->next = low;
}

#endif
