/* emulation._relay: carries frames between TAP devices on the schedule of relay_core.h.
 *
 * run() is the relay process's one loop: epoll over the TAPs, the control socket and one timer. The
 * schedule is absolute CLOCK_MONOTONIC, so a late wake-up delays the frames it should have sent and
 * no others. The timer fires a little early and the rest is spun away (relay_waking.h).
 *
 * Clockwork is the same in virtual time, for tests (relay_virtual.h).
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "relay_core.h"
#include "relay_counters.h"
#include "relay_heap.h"
#include "relay_memory.h"
#include "relay_pool.h"
#include "relay_virtual.h"
#include "relay_waking.h"

#define BATCH 8         /* frames read from one TAP, or sent to any, before the others get their turn */
#define MAX_FRAME 1518  /* 1500 of payload, 14 of header, 4 of VLAN tag; longer means an offload is on */
#define POOL_AT_START 40000.0 /* buffers at most, 60 MB; the rest as it is needed */
#define TAG_CONTROL UINT32_MAX
#define TAG_TIMER (UINT32_MAX - 1)

/* What is asked on the control socket: a path's counters; the machine's; a change, which has no answer.
 * The path moves to `server` with the change, unless that is NO_SERVER. */
typedef struct {
    uint32_t kind, path, server, unused;
    change_t change;
} message_t;
#define NO_SERVER UINT32_MAX
enum { ASK_COUNTERS, CHANGE, ASK_MACHINE };

typedef struct relay relay_t;

typedef struct {
    relay_t *relay;
    path_t *path;
    int in, out; /* file descriptors of the TAP read from and of the one written to */
    int64_t met; /* the release time last kept */
    counters_t count;
} wire_t;

struct relay {
    clockwork_t all;
    wire_t *wires; /* one for every path */
    heap_t heap; /* of the servers, by when there is something to do */
    pool_t pool;
    int control, epoll, timer;
    int64_t armed; /* what the timer stands at, 0 after it fired */
    int64_t awake; /* the last look at the clock since waking up, 0 before the first */
    waking_t waking;
    machine_t machine;
};

static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* A look at the clock while awake. */
static inline int64_t look(relay_t *relay) {
    int64_t now = now_ns(), gap = now - relay->awake;
    if (gap > HELD_UP_NS && relay->awake) {
        relay->machine.holdups++;
        relay->machine.holdup_ns += (uint64_t)gap;
        if ((uint64_t)gap > relay->machine.holdup_max_ns) relay->machine.holdup_max_ns = (uint64_t)gap;
    }
    return relay->awake = now;
}

/* --- Frames in and out of a device ------------------------------------------------------------------ */

static inline ssize_t device_read(int fd, void *buffer) { return read(fd, buffer, BUFFER_BYTES); }

static inline bool device_write(int fd, const void *frame, uint32_t length) {
    return write(fd, frame, length) == (ssize_t)length;
}

/* Hand over a frame, or its duplicate, with the bit `flip` of it turned. */
static void hand_over(wire_t *wire, const frame_t *frame, uint32_t flip) {
    unsigned char *damaged = (unsigned char *)frame->data + flip / 8, mask = flip ? 1u << flip % 8 : 0;
    *damaged ^= mask;
    wire->count.corrupted += flip != 0;
    if (device_write(wire->out, frame->data, frame->length)) {
        wire->count.delivered_frames++;
        wire->count.delivered_bytes += frame->length;
    } else {
        wire->count.drops_write++; /* the device is down, or the kernel is short of buffers */
    }
    *damaged ^= mask;
}

/* A frame leaves, `late` after its time. Lateness is that of release times, not frames: frames that
 * jitter has piled up on one instant leave one after the other, and only the first of them says how
 * well the instant was met. */
static void release(wire_t *wire, uint64_t late) {
    frame_t frame = ring_pop(&wire->path->air.line);
    hand_over(wire, &frame, frame.flip);
    if (frame.duplicated) {
        wire->count.duplicated++;
        hand_over(wire, &frame, frame.flip_copy);
    }
    if (frame.at != wire->met) {
        wire->met = frame.at;
        count_lateness(&wire->count, late);
    }
    pool_give(&wire->relay->pool, frame.data);
}

static void ended(path_t *path, const frame_t *frame, int64_t Py_UNUSED(when), fate_t fate) {
    wire_t *wire = path->owner;
    uint64_t *counts[] = {&wire->count.drops_queue, &wire->count.drops_aqm, &wire->count.drops_loss};
    ++*counts[fate];
    pool_give(&wire->relay->pool, frame->data);
}

/* --- The loop --------------------------------------------------------------------------------------- */

static inline void reschedule(relay_t *relay, const server_t *server) {
    uint32_t number = (uint32_t)(server - relay->all.servers);
    int64_t next = server_next(server);
    if (next != relay->heap.due[number]) heap_set(&relay->heap, number, next);
}

/* Send what is due, the earliest first and a few frames at most; return when the next is (NEVER: none). */
static int64_t send_due(relay_t *relay) {
    for (int sent = 0;;) {
        uint32_t number = relay->heap.order[0];
        int64_t due = relay->heap.due[number], now = look(relay);
        if (due > now || sent >= BATCH) return due;
        server_t *server = &relay->all.servers[number];
        bool piled = false;
        server_advance(server, now);
        for (size_t i = 0; i < server->size; i++) {
            ring_t *line = &server->paths[i]->air.line;
            if (ring_empty(line) || ring_head(line)->at > now) continue;
            if (sent++) now = look(relay);
            int64_t at = ring_head(line)->at;
            release(server->paths[i]->owner, (uint64_t)(now - at));
            piled = piled || (!ring_empty(line) && ring_head(line)->at == at);
        }
        if (piled) /* the rest of what jitter has piled up on one instant lets the others' frames go first */
            heap_set(&relay->heap, number, now);
        else
            reschedule(relay, server);
    }
}

/* Take what has come; 0, or the errno that ended the TAP. */
static int take_arrived(relay_t *relay, wire_t *wire) {
    int error = 0;
    for (int i = 0; i < BATCH; i++) {
        void *buffer = pool_take(&relay->pool);
        if (!buffer) return ENOMEM;
        ssize_t length = device_read(wire->in, buffer);
        if (length < 0 || length > MAX_FRAME) pool_give(&relay->pool, buffer);
        if (length < 0) {
            error = errno == EAGAIN || errno == EINTR ? 0 : errno;
            break;
        }
        wire->count.offered_frames++;
        wire->count.offered_bytes += (uint64_t)length;
        if (length > MAX_FRAME)
            wire->count.drops_oversize++;
        else
            path_offer(wire->path, now_ns(), (uint32_t)length, buffer);
    }
    reschedule(relay, wire->path->server);
    return wire->path->server->no_memory ? ENOMEM : error;
}

static void tolerate(relay_t *relay) {
    double fastest = 1.0;
    for (uint32_t i = 0; i < relay->all.path_count; i++) fastest = fmax(fastest, relay->all.paths[i].rate_bps);
    waking_tolerate(&relay->waking, 8.0 * FRAME_BYTES / fastest);
}

static void apply(relay_t *relay, path_t *path, const message_t *message) {
    int64_t now = now_ns();
    if (message->server != NO_SERVER) {
        const server_t *from = path->server;
        path_move(path, now, &relay->all.servers[message->server]);
        reschedule(relay, from);
    }
    path_change(path, now, &message->change);
    reschedule(relay, path->server);
}

/* Answer one message. -1 at the end of the socket. */
static int answer(relay_t *relay) {
    message_t message;
    ssize_t length = recv(relay->control, &message, sizeof message, MSG_DONTWAIT), sent;
    if (length < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
    if (length != sizeof message || message.path >= relay->all.path_count) return -1;
    if (message.server != NO_SERVER && message.server >= relay->all.server_count) return -1;
    wire_t *wire = &relay->wires[message.path];
    switch (message.kind) {
    case CHANGE:
        apply(relay, wire->path, &message);
        if (!isnan(message.change.rate_bps)) tolerate(relay);
        return 0;
    case ASK_COUNTERS:
        server_advance(wire->path->server, now_ns()); /* drops that have happened are to be counted */
        reschedule(relay, wire->path->server);
        sent = send(relay->control, &wire->count, sizeof wire->count, MSG_NOSIGNAL);
        return sent == (ssize_t)sizeof wire->count ? 0 : -1;
    case ASK_MACHINE:
        sent = send(relay->control, &relay->machine, sizeof relay->machine, MSG_NOSIGNAL);
        return sent == (ssize_t)sizeof relay->machine ? 0 : -1;
    default:
        return -1;
    }
}

static void arm(relay_t *relay, int64_t when) {
    if (when == relay->armed) return;
    struct itimerspec t = {.it_value = {.tv_sec = when / 1000000000, .tv_nsec = when % 1000000000}};
    timerfd_settime(relay->timer, TFD_TIMER_ABSTIME, &t, NULL);
    relay->armed = when;
}

/* The timer fired for `armed`. */
static void woken(relay_t *relay) {
    int64_t late = look(relay) - relay->armed;
    waking_late(&relay->waking, late);
    relay->machine.wakes++;
    if (late > HELD_UP_NS) relay->machine.late_wakes++;
    if (late > (int64_t)relay->machine.wake_max_ns) relay->machine.wake_max_ns = (uint64_t)late;
    relay->armed = 0;
}

/* Wait for a frame, a message or the timer. */
static int wait_asleep(relay_t *relay, struct epoll_event *events, int size) {
    int64_t from = now_ns();
    int ready = epoll_wait(relay->epoll, events, size, -1);
    waking_slept(&relay->waking, from, now_ns());
    return ready;
}

/* Carry frames until the control socket ends (0) or something fails (errno). */
static int carry(relay_t *relay) {
    struct epoll_event events[64];
    relay->waking.since = look(relay);
    for (;;) {
        int64_t next = send_due(relay);
        int64_t now = look(relay), lead = waking_lead(&relay->waking, now);
        bool spin = next != NEVER && next - now <= lead;
        if (next != NEVER && !spin) arm(relay, next - lead);
        if (!spin) relay->awake = 0;
        int ready = spin ? epoll_wait(relay->epoll, events, 64, 0) : wait_asleep(relay, events, 64);
        if (ready < 0 && errno != EINTR) return errno;
        for (int i = 0; i < ready; i++) {
            uint32_t tag = events[i].data.u32;
            if (tag == TAG_CONTROL) {
                if (answer(relay)) return 0;
            } else if (tag == TAG_TIMER) {
                uint64_t expirations;
                if (read(relay->timer, &expirations, sizeof expirations) > 0) woken(relay);
            } else {
                int error = take_arrived(relay, &relay->wires[tag]);
                if (error) return error;
                send_due(relay);
            }
        }
    }
}

/* --- Set-up ----------------------------------------------------------------------------------------- */

static int watch(relay_t *relay, int fd, uint32_t tag) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = tag};
    return epoll_ctl(relay->epoll, EPOLL_CTL_ADD, fd, &event);
}

/* What a path holds when its queue and its delay line are full of full frames. */
static double frames_held(const path_t *path) {
    double line = path->rate_bps * (path->air.delay_ns + 4 * path->air.jitter_ns) * 1e-9 / 8;
    return 2 + ((double)path->queue.limit_bytes + line) / FRAME_BYTES;
}

/* Make servers, paths and wires of the list run() is given. -1: an exception is set. */
static int take(relay_t *relay, PyObject *list) {
    clockwork_t *all = &relay->all;
    if (clockwork_from(list, all, now_ns())) return -1;
    relay->wires = calloc(all->path_count + 1, sizeof *relay->wires);
    if (!relay->wires || heap_init(&relay->heap, all->server_count)) return -1;
    double held = 0;
    wire_t *wire = relay->wires;
    for (uint32_t s = 0; s < all->server_count; s++) {
        PyObject *documents = PyTuple_GET_ITEM(PyList_GET_ITEM(list, s), 1);
        all->servers[s].ended = ended;
        for (size_t i = 0; i < all->servers[s].size; i++, wire++) {
            PyObject *document = PyList_GET_ITEM(documents, (Py_ssize_t)i);
            wire->relay = relay;
            wire->path = all->servers[s].paths[i];
            wire->path->owner = wire;
            wire->in = (int)number_of(document, "in", -1);
            wire->out = (int)number_of(document, "out", -1);
            held += frames_held(wire->path);
        }
        heap_set(&relay->heap, s, server_next(&all->servers[s]));
    }
    for (double have = 0; have < fmin(held, POOL_AT_START); have += SLAB_BUFFERS)
        if (pool_grow(&relay->pool)) return -1;
    return PyErr_Occurred() ? -1 : 0;
}

PyDoc_STRVAR(run_doc,
"run(servers, control)\n\n"
"Carry frames until the control socket ends. `servers` is a list of (scheduler, paths), each path a\n"
"document of emulation.relay_parameters with the non-blocking TAP descriptors `in` and `out`; `control`\n"
"a SOCK_SEQPACKET socket for messages (relay.c: message_t), which count paths in that order, also after\n"
"they have moved to other servers. Raises OSError when a TAP fails.");

static PyObject *relay_run(PyObject *Py_UNUSED(self), PyObject *args) {
    PyObject *list, *result = NULL;
    relay_t relay = {.epoll = -1, .timer = -1, .waking = {.typical_ns = 20000, .rare_ns = 100000}};
    if (!PyArg_ParseTuple(args, "O!i", &PyList_Type, &list, &relay.control)) return NULL;
    if (take(&relay, list)) {
        if (!PyErr_Occurred()) PyErr_NoMemory();
        goto done;
    }
    tolerate(&relay);
    relay.epoll = epoll_create1(EPOLL_CLOEXEC);
    relay.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int failed = relay.epoll < 0 || relay.timer < 0 || watch(&relay, relay.timer, TAG_TIMER) ||
                 watch(&relay, relay.control, TAG_CONTROL);
    for (uint32_t i = 0; i < relay.all.path_count && !failed; i++) failed = watch(&relay, relay.wires[i].in, i);
    int error = failed ? errno : 0;
    if (!error) {
        Py_BEGIN_ALLOW_THREADS
        error = carry(&relay);
        Py_END_ALLOW_THREADS
    }
    if (error) {
        errno = error;
        PyErr_SetFromErrno(PyExc_OSError);
    } else {
        result = Py_NewRef(Py_None);
    }
done:
    clockwork_free(&relay.all);
    free(relay.wires);
    heap_free(&relay.heap);
    pool_free(&relay.pool);
    if (relay.epoll >= 0) close(relay.epoll);
    if (relay.timer >= 0) close(relay.timer);
    return result;
}

static PyMethodDef module_methods[] = {
    {"run", relay_run, METH_VARARGS, run_doc},
    {"lock_memory", relay_lock_memory, METH_NOARGS, lock_memory_doc},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef module_definition = {
    PyModuleDef_HEAD_INIT, .m_name = "emulation._relay",
    .m_doc = "The relay's loop and its clockwork; see relay.c and relay_core.h.", .m_size = -1,
    .m_methods = module_methods,
};

PyMODINIT_FUNC PyInit__relay(void) {
    if (PyType_Ready(&clockwork_type)) return NULL;
    PyObject *module = PyModule_Create(&module_definition);
    if (!module) return NULL;
    if (PyModule_AddObjectRef(module, "Clockwork", (PyObject *)&clockwork_type) ||
        PyModule_AddIntConstant(module, "LATENESS_BINS", BINS) ||
        PyModule_AddIntConstant(module, "LATENESS_SUB_BITS", SUB_BITS))
        Py_CLEAR(module);
    return module;
}
