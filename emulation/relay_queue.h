/* What waits for a link: a ring of frames, its limits, and CoDel. */
#ifndef FEDCELL_RELAY_QUEUE_H
#define FEDCELL_RELAY_QUEUE_H

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

#define FRAME_BYTES 1514                 /* a full Ethernet frame, as emulation/link.py has it */
#define CODEL_TARGET_NS 5000000          /* RFC 8289, section 4.4 */
#define CODEL_INTERVAL_NS 100000000      /* section 4.3 */

typedef struct {
    void *data;               /* the frame itself; in virtual time its number */
    int64_t at;               /* in the queue: when it came; on the delay line: when it leaves */
    uint32_t length;
    uint32_t flip, flip_copy; /* the bit to flip in it, and in its duplicate; 0: none */
    bool duplicated;
} frame_t;

/* First in, first out; grows as needed. */
typedef struct {
    frame_t *frames;
    size_t capacity;   /* a power of two */
    size_t head, tail; /* running counts: the next to leave, the next to come */
} ring_t;

static inline bool ring_empty(const ring_t *ring) { return ring->head == ring->tail; }

static inline frame_t *ring_at(const ring_t *ring, size_t count) {
    return &ring->frames[count & (ring->capacity - 1)];
}

static inline frame_t *ring_head(const ring_t *ring) { return ring_at(ring, ring->head); }

/* Room for `capacity` frames, a power of two; false when there is no memory. */
static bool ring_reserve(ring_t *ring, size_t capacity) {
    frame_t *frames = calloc(capacity, sizeof *frames);
    if (!frames) return false;
    for (size_t i = ring->head; i != ring->tail; i++) frames[i & (capacity - 1)] = *ring_at(ring, i);
    free(ring->frames);
    ring->frames = frames;
    ring->capacity = capacity;
    return true;
}

static inline bool ring_push(ring_t *ring, const frame_t *frame) {
    if (ring->tail - ring->head == ring->capacity && !ring_reserve(ring, 2 * ring->capacity)) return false;
    *ring_at(ring, ring->tail++) = *frame;
    return true;
}

static inline frame_t ring_pop(ring_t *ring) { return *ring_at(ring, ring->head++); }

typedef struct {
    ring_t ring;
    int64_t bytes;                     /* of what waits */
    int64_t limit_bytes, limit_frames; /* what would exceed one is dropped at the tail */
    bool codel;
    bool dropping; /* the rest is CoDel's, by the names of RFC 8289 */
    int64_t first_above_time, drop_next;
    uint32_t count, lastcount;
} queue_t;

static inline bool queue_has_room(const queue_t *queue, uint32_t length) {
    return queue->bytes + length <= queue->limit_bytes &&
           (int64_t)(queue->ring.tail - queue->ring.head) < queue->limit_frames;
}

static inline bool queue_push(queue_t *queue, const frame_t *frame) {
    queue->bytes += frame->length;
    return ring_push(&queue->ring, frame);
}

/* RFC 8289's dodequeue: the next frame, and whether it may be dropped. False: the queue is empty. */
static bool codel_dequeue(queue_t *queue, int64_t now, frame_t *frame, bool *ok_to_drop) {
    *ok_to_drop = false;
    if (ring_empty(&queue->ring)) {
        queue->first_above_time = 0;
        return false;
    }
    *frame = ring_pop(&queue->ring);
    queue->bytes -= frame->length;
    if (now - frame->at < CODEL_TARGET_NS || queue->bytes <= FRAME_BYTES)
        queue->first_above_time = 0;
    else if (queue->first_above_time == 0)
        queue->first_above_time = now + CODEL_INTERVAL_NS;
    else
        *ok_to_drop = now >= queue->first_above_time;
    return true;
}

static inline int64_t codel_control_law(int64_t t, uint32_t count) {
    return t + (int64_t)(CODEL_INTERVAL_NS / sqrt(count));
}

typedef void (*drop_t)(void *owner, const frame_t *frame);

/* Take the next frame to send at `now`; `drop` gets those that CoDel drops before it. False: none is left.
 *
 * With CoDel this is RFC 8289's dequeue (section 5.5), line by line. */
static bool queue_take(queue_t *queue, int64_t now, frame_t *frame, drop_t drop, void *owner) {
    if (!queue->codel) {
        if (ring_empty(&queue->ring)) return false;
        *frame = ring_pop(&queue->ring);
        queue->bytes -= frame->length;
        return true;
    }
    bool ok_to_drop, found = codel_dequeue(queue, now, frame, &ok_to_drop);
    if (queue->dropping) {
        if (!ok_to_drop) queue->dropping = false;
        while (now >= queue->drop_next && queue->dropping) {
            drop(owner, frame);
            queue->count++;
            found = codel_dequeue(queue, now, frame, &ok_to_drop);
            if (!ok_to_drop)
                queue->dropping = false;
            else
                queue->drop_next = codel_control_law(queue->drop_next, queue->count);
        }
    } else if (ok_to_drop) {
        drop(owner, frame);
        found = codel_dequeue(queue, now, frame, &ok_to_drop);
        queue->dropping = true;
        uint32_t delta = queue->count - queue->lastcount;
        queue->count = delta > 1 && now - queue->drop_next < 16 * (int64_t)CODEL_INTERVAL_NS ? delta : 1;
        queue->drop_next = codel_control_law(now, queue->count);
        queue->lastcount = queue->count;
    }
    return found;
}

#endif
