/* Which of many is due first: a binary heap of times, with each one's place in it known. */
#ifndef FEDCELL_RELAY_HEAP_H
#define FEDCELL_RELAY_HEAP_H

#include <stdint.h>
#include <stdlib.h>

typedef struct {
    int64_t *due;    /* by number */
    uint32_t *order; /* the heap: numbers, none due before its parent (i - 1) / 2 */
    uint32_t *place; /* by number: where in `order` */
    uint32_t size;
} heap_t;

static int heap_init(heap_t *heap, uint32_t size) {
    heap->size = size;
    heap->due = malloc((size + 1) * sizeof *heap->due);
    heap->order = malloc((size + 1) * sizeof *heap->order);
    heap->place = malloc((size + 1) * sizeof *heap->place);
    if (!heap->due || !heap->order || !heap->place) return -1;
    for (uint32_t i = 0; i <= size; i++) { /* one more, so that an empty heap has a head */
        heap->due[i] = INT64_MAX;
        heap->order[i] = heap->place[i] = i;
    }
    return 0;
}

static void heap_free(heap_t *heap) {
    free(heap->due);
    free(heap->order);
    free(heap->place);
}

static inline void heap_put(heap_t *heap, uint32_t at, uint32_t number) {
    heap->order[at] = number;
    heap->place[number] = at;
}

static void heap_set(heap_t *heap, uint32_t number, int64_t due) {
    uint32_t at = heap->place[number], size = heap->size;
    const int64_t *times = heap->due;
    heap->due[number] = due;
    for (uint32_t parent; at > 0 && times[heap->order[parent = (at - 1) / 2]] > due; at = parent)
        heap_put(heap, at, heap->order[parent]);
    for (uint32_t child; (child = 2 * at + 1) < size; at = child) {
        if (child + 1 < size && times[heap->order[child + 1]] < times[heap->order[child]]) child++;
        if (times[heap->order[child]] >= due) break;
        heap_put(heap, at, heap->order[child]);
    }
    heap_put(heap, at, number);
}

#endif
