/* Buffers for frames, taken from the system in slabs and kept: no malloc and no page fault per frame. */
#ifndef FEDCELL_RELAY_POOL_H
#define FEDCELL_RELAY_POOL_H

#include <stdlib.h>
#include <string.h>

#define BUFFER_BYTES 1536 /* a frame of 1518 bytes, and one byte more to see that it is longer */
#define SLAB_BUFFERS 64

typedef union buffer {
    union buffer *next; /* while it is free */
    unsigned char bytes[BUFFER_BYTES];
} buffer_t;

typedef struct slab {
    struct slab *next;
    buffer_t buffers[SLAB_BUFFERS];
} slab_t;

typedef struct {
    buffer_t *free;
    slab_t *slabs;
} pool_t;

/* One slab more, its pages touched. -1: no memory. */
static int pool_grow(pool_t *pool) {
    slab_t *slab = malloc(sizeof *slab);
    if (!slab) return -1;
    memset(slab, 0, sizeof *slab);
    slab->next = pool->slabs;
    pool->slabs = slab;
    for (int i = 0; i < SLAB_BUFFERS; i++) {
        slab->buffers[i].next = pool->free;
        pool->free = &slab->buffers[i];
    }
    return 0;
}

/* A buffer, or NULL: no memory. */
static inline void *pool_take(pool_t *pool) {
    if (!pool->free && pool_grow(pool)) return NULL;
    buffer_t *buffer = pool->free;
    pool->free = buffer->next;
    return buffer;
}

static inline void pool_give(pool_t *pool, void *data) {
    buffer_t *buffer = data;
    buffer->next = pool->free;
    pool->free = buffer;
}

static void pool_free(pool_t *pool) {
    for (slab_t *slab = pool->slabs, *next; slab; slab = next) {
        next = slab->next;
        free(slab);
    }
}

#endif
