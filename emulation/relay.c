/* emulation._relay: carries frames between TAP devices on the schedule of relay_core.h.
 *
 * run() is the relay process's one loop: epoll over the TAPs, the control socket and one timer. The
 * schedule is absolute CLOCK_MONOTONIC, so a late wake-up delays the frames it should have sent and
 * no others. The timer fires a little early and the rest is spun away; how early follows how late
 * this machine's wake-ups come, for every microsecond of it is taken from the programs under test.
 *
 * Path is the same clockwork in virtual time, for tests.
 */
#define _GNU_SOURCE
#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/timerfd.h>
#include <time.h>
#include <unistd.h>

#include "relay_core.h"

#define SPIN_MIN_NS 5000.0
#define SPIN_MAX_NS 120000.0
#define SPIN_STEP_NS 1000.0
#define SPIN_LATE 0.004         /* the share of wake-ups that may be late beyond the spin */
#define TOLERATED_NS 30000.0    /* by more than this, a third of the least limit on lateness */
#define BATCH 8         /* frames read from one TAP, or sent to it, before the others get their turn */
#define MAX_FRAME 1518  /* 1500 of payload, 14 of header, 4 of VLAN tag; longer means an offload is on */
#define SUB_BITS 4      /* histogram: 16 bins an octave, so a quantile is known to 1/16 */
#define BINS 528        /* up to 2^36 ns, more than a minute */
#define TAG_CONTROL UINT32_MAX
#define TAG_TIMER (UINT32_MAX - 1)

/* The answer to a question for one path's counters; relay.py unpacks it in this order. */
typedef struct {
    uint64_t offered_frames, offered_bytes, delivered_frames, delivered_bytes;
    uint64_t drops_queue, drops_loss, drops_write, drops_oversize;
    uint64_t lateness_max_ns;
    uint64_t lateness[BINS];
} counters_t;

typedef struct {
    path_t path;
    int in, out; /* file descriptors of the TAP read from and of the one written to */
    int64_t met; /* the release time last kept */
    counters_t count;
} wire_t;

typedef struct {
    wire_t *wires;
    uint32_t size;
    int control, epoll, timer;
    int64_t armed; /* what the timer stands at, 0 after it fired */
    double spin_ns;
} relay_t;

static inline int64_t now_ns(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* Bins of equal width 1 below 2^SUB_BITS, then 2^SUB_BITS an octave. */
static inline unsigned bin_of(uint64_t ns) {
    if (ns < 1u << SUB_BITS) return (unsigned)ns;
    unsigned exponent = 63 - (unsigned)__builtin_clzll(ns) - SUB_BITS;
    unsigned bin = (exponent << SUB_BITS) + (unsigned)(ns >> exponent);
    return bin < BINS ? bin : BINS - 1;
}

/* Send what is due, a few frames at most; return when the next frame is (INT64_MAX: none).
 *
 * Lateness is that of release times, not frames: frames that jitter has piled up on one instant leave
 * one after the other, and only the first of them says how well the instant was met. */
static int64_t send_due(wire_t *wire) {
    frame_t *frame;
    for (int sent = 0; (frame = path_head(&wire->path)); sent++) {
        int64_t late = now_ns() - frame->out;
        if (late < 0 || sent == BATCH) return frame->out;
        if (frame->lost) {
            wire->count.drops_loss++;
        } else {
            if (write(wire->out, frame->data, frame->length) == (ssize_t)frame->length) {
                wire->count.delivered_frames++;
                wire->count.delivered_bytes += frame->length;
            } else {
                wire->count.drops_write++; /* the device is down, or the kernel is short of buffers */
            }
            if (frame->out != wire->met) {
                wire->met = frame->out;
                wire->count.lateness[bin_of((uint64_t)late)]++;
                if ((uint64_t)late > wire->count.lateness_max_ns) wire->count.lateness_max_ns = (uint64_t)late;
            }
            free(frame->data);
        }
        path_pop(&wire->path);
    }
    return INT64_MAX;
}

static int64_t send_all_due(relay_t *relay) {
    int64_t next = INT64_MAX;
    for (uint32_t i = 0; i < relay->size; i++) {
        int64_t due = send_due(&relay->wires[i]);
        if (due < next) next = due;
    }
    return next;
}

/* Take what has come; 0, or the errno that ended the TAP. */
static int take_arrived(wire_t *wire) {
    unsigned char frame[4096];
    for (int i = 0; i < BATCH; i++) {
        ssize_t length = read(wire->in, frame, sizeof frame);
        if (length < 0) return errno == EAGAIN || errno == EINTR ? 0 : errno;
        wire->count.offered_frames++;
        wire->count.offered_bytes += (uint64_t)length;
        if (length > MAX_FRAME) {
            wire->count.drops_oversize++;
            continue;
        }
        int64_t out = path_offer(&wire->path, now_ns(), (uint32_t)length);
        if (out == NO_MEMORY) return ENOMEM;
        if (out == DROPPED_QUEUE) wire->count.drops_queue++;
        if (out < 0) continue;
        frame_t *slot = path_at(&wire->path, wire->path.tail - 1);
        if (!(slot->data = malloc((size_t)length))) return ENOMEM;
        memcpy(slot->data, frame, (size_t)length);
    }
    return 0;
}

/* Answer one question, a uint32 path number, with its counters. -1 at the end of the socket. */
static int answer(relay_t *relay) {
    uint32_t number;
    ssize_t length = recv(relay->control, &number, sizeof number, MSG_DONTWAIT);
    if (length < 0) return errno == EAGAIN || errno == EINTR ? 0 : -1;
    if (length != sizeof number || number >= relay->size) return -1;
    counters_t *count = &relay->wires[number].count;
    return send(relay->control, count, sizeof *count, MSG_NOSIGNAL) == (ssize_t)sizeof *count ? 0 : -1;
}

static void arm(relay_t *relay, int64_t when) {
    if (when == relay->armed) return;
    struct itimerspec t = {.it_value = {.tv_sec = when / 1000000000, .tv_nsec = when % 1000000000}};
    timerfd_settime(relay->timer, TFD_TIMER_ABSTIME, &t, NULL);
    relay->armed = when;
}

/* The timer fired for `armed`: let the spin follow the quantile 1 - SPIN_LATE of wake-up lateness, less
 * what is tolerated, up by a large step after each wake-up that came later and down by a small one
 * after the others (stochastic approximation, Robbins and Monro 1951). */
static void woken(relay_t *relay) {
    double late = (double)(now_ns() - relay->armed) - TOLERATED_NS;
    relay->spin_ns += late > relay->spin_ns ? SPIN_STEP_NS * (1 - SPIN_LATE) : -SPIN_STEP_NS * SPIN_LATE;
    relay->spin_ns = fmin(fmax(relay->spin_ns, SPIN_MIN_NS), SPIN_MAX_NS);
    relay->armed = 0;
}

/* Carry frames until the control socket ends (0) or something fails (errno). */
static int carry(relay_t *relay) {
    struct epoll_event events[64];
    for (;;) {
        int64_t next = send_all_due(relay);
        int64_t lead = (int64_t)relay->spin_ns;
        int spin = next != INT64_MAX && next - now_ns() <= lead;
        if (next != INT64_MAX && !spin) arm(relay, next - lead);
        int ready = epoll_wait(relay->epoll, events, 64, spin ? 0 : -1);
        if (ready < 0 && errno != EINTR) return errno;
        for (int i = 0; i < ready; i++) {
            uint32_t tag = events[i].data.u32;
            if (tag == TAG_CONTROL) {
                if (answer(relay)) return 0;
            } else if (tag == TAG_TIMER) {
                uint64_t expirations;
                if (read(relay->timer, &expirations, sizeof expirations) > 0) woken(relay);
            } else {
                int error = take_arrived(&relay->wires[tag]);
                if (error) return error;
                send_all_due(relay);
            }
        }
    }
}

static int watch(relay_t *relay, int fd, uint32_t tag) {
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = tag};
    return epoll_ctl(relay->epoll, EPOLL_CTL_ADD, fd, &event);
}

PyDoc_STRVAR(run_doc,
"run(wires, control)\n\n"
"Carry frames until the control socket ends. `wires` is a list of (in_fd, out_fd, rate_bps, delay_s,\n"
"jitter_s, loss, queue_bytes, seed), with non-blocking TAP descriptors; `control` a SOCK_SEQPACKET\n"
"socket that answers each uint32 path number with that path's counters. Raises OSError when a TAP fails.");

static PyObject *relay_run(PyObject *Py_UNUSED(self), PyObject *args) {
    PyObject *list, *result = NULL;
    relay_t relay = {.epoll = -1, .timer = -1, .spin_ns = 50000};
    if (!PyArg_ParseTuple(args, "O!i", &PyList_Type, &list, &relay.control)) return NULL;
    Py_ssize_t size = PyList_GET_SIZE(list);
    relay.wires = calloc(size ? (size_t)size : 1, sizeof *relay.wires);
    if (!relay.wires) return PyErr_NoMemory();

    for (Py_ssize_t i = 0; i < size; i++) {
        wire_t *wire = &relay.wires[i];
        double rate, delay, jitter, loss;
        long long queue;
        unsigned long long seed;
        if (!PyArg_ParseTuple(PyList_GET_ITEM(list, i), "iiddddLK", &wire->in, &wire->out, &rate, &delay,
                              &jitter, &loss, &queue, &seed))
            goto done;
        if (path_init(&wire->path, rate, delay, jitter, loss, queue, seed)) {
            PyErr_NoMemory();
            goto done;
        }
        relay.size++;
    }
    relay.epoll = epoll_create1(EPOLL_CLOEXEC);
    relay.timer = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK | TFD_CLOEXEC);
    int failed = relay.epoll < 0 || relay.timer < 0 || watch(&relay, relay.timer, TAG_TIMER) ||
                 watch(&relay, relay.control, TAG_CONTROL);
    for (uint32_t i = 0; i < relay.size && !failed; i++) failed = watch(&relay, relay.wires[i].in, i);
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
    for (uint32_t i = 0; i < relay.size; i++) path_free(&relay.wires[i].path);
    free(relay.wires);
    if (relay.epoll >= 0) close(relay.epoll);
    if (relay.timer >= 0) close(relay.timer);
    return result;
}

PyDoc_STRVAR(lock_memory_doc,
"lock_memory() -> bool\n\n"
"Keep this process's memory, what it has and what it will take, from being paged out. False where the\n"
"amount is limited (no CAP_IPC_LOCK): then nothing is locked, for a later allocation would fail.");

static PyObject *relay_lock_memory(PyObject *Py_UNUSED(self), PyObject *Py_UNUSED(args)) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_MEMLOCK, &limit)) return PyErr_SetFromErrno(PyExc_OSError);
    int free_of_limit = limit.rlim_cur == RLIM_INFINITY;
    if (!free_of_limit) { /* lock more than the limit, in address space only, to see whether it binds us */
        size_t size = (size_t)limit.rlim_cur + (1 << 20);
        void *reserved = mmap(NULL, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (reserved != MAP_FAILED) {
            free_of_limit = !mlock2(reserved, size, MLOCK_ONFAULT);
            munmap(reserved, size);
        }
    }
    return PyBool_FromLong(free_of_limit && !mlockall(MCL_CURRENT | MCL_FUTURE));
}

typedef struct {
    PyObject_HEAD
    path_t path;
} PathObject;

PyDoc_STRVAR(path_doc,
"Path(rate_bps, delay_s=0, jitter_s=0, loss=0, queue_bytes=96896, seed=0)\n\n"
"One direction of a link in virtual time: what the relay's loop does to a frame, without the frame.");

static int path_object_init(PathObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"rate_bps", "delay_s", "jitter_s", "loss", "queue_bytes", "seed", NULL};
    double rate, delay = 0, jitter = 0, loss = 0;
    long long queue = 64 * 1514;
    unsigned long long seed = 0;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "d|dddLK", names, &rate, &delay, &jitter, &loss, &queue,
                                     &seed))
        return -1;
    path_free(&self->path);
    if (path_init(&self->path, rate, delay, jitter, loss, queue, seed)) {
        PyErr_NoMemory();
        return -1;
    }
    return 0;
}

static void path_object_dealloc(PathObject *self) {
    path_free(&self->path);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

PyDoc_STRVAR(offer_doc,
"offer(now_ns, length) -> int\n\n"
"Offer a frame of `length` bytes at `now_ns` (never before an earlier offer's). Returns its release\n"
"time in nanoseconds, DROPPED_QUEUE (the tail was full) or DROPPED_LOSS (lost on the air).");

static PyObject *path_object_offer(PathObject *self, PyObject *args) {
    long long now, length;
    if (!PyArg_ParseTuple(args, "LL", &now, &length)) return NULL;
    if (now < 0 || length <= 0 || length > INT_MAX)
        return PyErr_Format(PyExc_ValueError, "a frame of %lld bytes at %lld ns", length, now);
    for (frame_t *frame; (frame = path_head(&self->path)) && frame->out <= now;) path_pop(&self->path);
    int64_t out = path_offer(&self->path, now, (uint32_t)length);
    return out == NO_MEMORY ? PyErr_NoMemory() : PyLong_FromLongLong(out);
}

PyDoc_STRVAR(waiting_doc,
"waiting(now_ns) -> int\n\n"
"Bytes that wait for the link at `now_ns`, the frame in service not among them.");

static PyObject *path_object_waiting(PathObject *self, PyObject *args) {
    long long now;
    if (!PyArg_ParseTuple(args, "L", &now)) return NULL;
    return PyLong_FromLongLong(path_waiting(&self->path, now));
}

static PyMethodDef path_methods[] = {
    {"offer", (PyCFunction)path_object_offer, METH_VARARGS, offer_doc},
    {"waiting", (PyCFunction)path_object_waiting, METH_VARARGS, waiting_doc},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject path_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "emulation._relay.Path",
    .tp_basicsize = sizeof(PathObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = path_doc,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)path_object_init,
    .tp_dealloc = (destructor)path_object_dealloc,
    .tp_methods = path_methods,
};

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
    if (PyType_Ready(&path_type)) return NULL;
    PyObject *module = PyModule_Create(&module_definition);
    if (!module) return NULL;
    if (PyModule_AddObjectRef(module, "Path", (PyObject *)&path_type) ||
        PyModule_AddIntMacro(module, DROPPED_QUEUE) || PyModule_AddIntMacro(module, DROPPED_LOSS) ||
        PyModule_AddIntConstant(module, "LATENESS_BINS", BINS) ||
        PyModule_AddIntConstant(module, "LATENESS_SUB_BITS", SUB_BITS))
        Py_CLEAR(module);
    return module;
}
