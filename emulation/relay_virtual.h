/* Parameters as Python gives them, and the clockwork in virtual time as a Python object, for tests. */
#ifndef FEDCELL_RELAY_VIRTUAL_H
#define FEDCELL_RELAY_VIRTUAL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <limits.h>

#include "relay_core.h"

/* A number of the document, or `missing`; an exception is left set for what is no number. */
static double number_of(PyObject *document, const char *key, double missing) {
    PyObject *value = PyDict_GetItemString(document, key);
    return value && value != Py_None ? PyFloat_AsDouble(value) : missing;
}

/* An array packed into bytes, which live as long as the document; NULL: none. */
static const void *packed_of(PyObject *document, const char *key, size_t *size) {
    PyObject *value = PyDict_GetItemString(document, key);
    if (!value || value == Py_None) return NULL;
    *size = (size_t)PyBytes_Size(value) / 8;
    return PyErr_Occurred() ? NULL : PyBytes_AsString(value);
}

/* A path, and with a trace its server too, from a document (emulation/relay_parameters.py). -1: exception. */
static int path_from(PyObject *document, path_t *path, server_t *server, int64_t now) {
    if (!PyDict_Check(document)) {
        PyErr_SetString(PyExc_TypeError, "a path's parameters are a dict");
        return -1;
    }
    path->rate_bps = number_of(document, "rate_bps", 0);
    path->queue.limit_bytes = (int64_t)number_of(document, "queue_bytes", 64 * FRAME_BYTES);
    path->queue.limit_frames = (int64_t)number_of(document, "queue_frames", 1e15);
    path->queue.codel = number_of(document, "codel", 0) != 0;
    path->air.delay_ns = 1e9 * number_of(document, "delay_s", 0);
    path->air.jitter_ns = 1e9 * number_of(document, "jitter_s", 0);
    path->air.jitter_table = packed_of(document, "jitter_table", &path->air.jitter_table_size);
    path->air.loss = number_of(document, "loss", 0);
    path->air.loss_burst = number_of(document, "loss_burst", 1);
    path->air.duplicate = number_of(document, "duplicate", 0);
    path->air.corrupt = number_of(document, "corrupt", 0);
    path->mean_up_ns = 1e9 * number_of(document, "mean_up_s", 0);
    path->mean_down_ns = 1e9 * number_of(document, "mean_down_s", 0);
    const void *trace = packed_of(document, "trace_ns", &server->trace_size);
    if (trace) server->trace = trace;
    PyObject *seed = PyDict_GetItemString(document, "seed");
    uint64_t value = seed ? PyLong_AsUnsignedLongLong(seed) : 0;
    if (PyErr_Occurred()) return -1;
    if (!(path->rate_bps > 0) || (path->air.jitter_table && path->air.jitter_table_size < 2) ||
        (server->trace && (server->trace_size < 1 || server->trace[server->trace_size - 1] <= 0))) {
        PyErr_SetString(PyExc_ValueError, "a path needs a rate, a table two values, a trace a period");
        return -1;
    }
    if (path_start(path, server, value, now)) return 0;
    PyErr_NoMemory();
    return -1;
}

/* A server over the documents of its paths; -1: exception, and server_free() is due all the same. */
static int server_from(PyObject *documents, const char *scheduler, server_t *server, int64_t now) {
    Py_ssize_t size = PyList_Check(documents) ? PyList_GET_SIZE(documents) : 0;
    if (size < 1 || (strcmp(scheduler, "round_robin") && strcmp(scheduler, "proportional_fair"))) {
        PyErr_Format(PyExc_ValueError, "a server needs a list of paths and a scheduler, not %s", scheduler);
        return -1;
    }
    server->scheduler = *scheduler == 'r' ? ROUND_ROBIN : PROPORTIONAL_FAIR;
    if (!(server->paths = calloc((size_t)size, sizeof *server->paths))) {
        PyErr_NoMemory();
        return -1;
    }
    server->size = (size_t)size;
    server->last = server->size - 1;
    for (Py_ssize_t i = 0; i < size; i++)
        if (path_from(PyList_GET_ITEM(documents, i), &server->paths[i], server, now)) return -1;
    if (server->trace && size > 1) {
        PyErr_SetString(PyExc_ValueError, "a path with a trace has a server of its own");
        return -1;
    }
    server_start(server, now);
    return 0;
}

static void server_free(server_t *server) {
    for (size_t i = 0; i < server->size; i++) path_free(&server->paths[i]);
    free(server->paths);
    server->paths = NULL;
    server->size = 0;
}

typedef struct {
    PyObject_HEAD
    server_t server;
    PyObject *documents; /* whose tables the server reads */
    PyObject *ended;     /* what has ended since advance() last told */
    int64_t now;
    long long offered;
    bool failed; /* an exception is set */
} ServerObject;

static void tell(ServerObject *self, const path_t *path, const frame_t *frame, int64_t when, const char *fate,
                 uint32_t flip) {
    PyObject *entry = Py_BuildValue("(LnnsI)", (long long)when, (Py_ssize_t)(path - self->server.paths),
                                    (Py_ssize_t)(intptr_t)frame->data, fate, (unsigned)flip);
    if (!entry || PyList_Append(self->ended, entry)) self->failed = true;
    Py_XDECREF(entry);
}

static void tell_drop(path_t *path, const frame_t *frame, int64_t when, fate_t fate) {
    static const char *names[] = {"queue", "aqm", "loss"};
    tell(path->owner, path, frame, when, names[fate], 0);
}

PyDoc_STRVAR(server_doc,
"Server(paths, scheduler=\"round_robin\", start_ns=0)\n\n"
"What the relay's loop does to frames, without the frames, in virtual time. `paths` documents as of\n"
"emulation.relay_parameters; several of them share one air. Times never go back.");

static void server_object_clear(ServerObject *self) {
    server_free(&self->server);
    Py_CLEAR(self->documents);
    Py_CLEAR(self->ended);
}

static int server_object_init(ServerObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"paths", "scheduler", "start_ns", NULL};
    const char *scheduler = "round_robin";
    long long start = 0;
    PyObject *documents;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|sL", names, &documents, &scheduler, &start)) return -1;
    server_object_clear(self);
    memset(&self->server, 0, sizeof self->server);
    self->server.ended = tell_drop;
    self->documents = Py_NewRef(documents);
    self->now = start;
    if (!(self->ended = PyList_New(0)) || server_from(documents, scheduler, &self->server, start)) return -1;
    for (size_t i = 0; i < self->server.size; i++) self->server.paths[i].owner = self;
    return 0;
}

static void server_object_dealloc(ServerObject *self) {
    server_object_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* The path numbered, once `now` is no time gone by; NULL: exception. */
static path_t *path_at(ServerObject *self, Py_ssize_t number, long long now) {
    if (number < 0 || (size_t)number >= self->server.size || now < self->now) {
        PyErr_Format(PyExc_ValueError, "path %zd at %lld ns: no such path, or time went back", number, now);
        return NULL;
    }
    self->now = now;
    return &self->server.paths[number];
}

static int server_object_failed(ServerObject *self) {
    if (self->server.no_memory && !PyErr_Occurred()) PyErr_NoMemory();
    return self->failed || self->server.no_memory;
}

PyDoc_STRVAR(offer_doc,
"offer(path, now_ns, length) -> int\n\n"
"Offer path number `path` a frame of `length` bytes; the frame's number, counted over all paths from 0.");

static PyObject *server_object_offer(ServerObject *self, PyObject *args) {
    Py_ssize_t number;
    long long now, length;
    if (!PyArg_ParseTuple(args, "nLL", &number, &now, &length)) return NULL;
    if (length <= 0 || length > INT_MAX) return PyErr_Format(PyExc_ValueError, "%lld bytes", length);
    path_t *path = path_at(self, number, now);
    if (!path) return NULL;
    path_offer(path, now, (uint32_t)length, (void *)(intptr_t)self->offered);
    return server_object_failed(self) ? NULL : PyLong_FromLongLong(self->offered++);
}

PyDoc_STRVAR(change_doc,
"change(path, now_ns, rate_bps=nan, delay_s=nan, loss=nan, up=nan)\n\n"
"Change a path from `now_ns` on; NaN stays as it is.");

static PyObject *server_object_change(ServerObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"path", "now_ns", "rate_bps", "delay_s", "loss", "up", NULL};
    Py_ssize_t number;
    long long now;
    change_t change = {NAN, NAN, NAN, NAN};
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "nL|dddd", names, &number, &now, &change.rate_bps,
                                     &change.delay_s, &change.loss, &change.up))
        return NULL;
    path_t *path = path_at(self, number, now);
    if (!path) return NULL;
    path_change(path, now, &change);
    return server_object_failed(self) ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(advance_doc,
"advance(now_ns) -> list[tuple[int, int, int, str, int]]\n\n"
"What ended since the call before: (when, path, frame number, fate, bit flipped or 0), in the order of\n"
"time. Fates: \"out\", \"copy\" (a duplicate, out too), \"queue\" (tail drop), \"aqm\", \"loss\".");

static PyObject *server_object_advance(ServerObject *self, PyObject *args) {
    long long now;
    if (!PyArg_ParseTuple(args, "L", &now) || !path_at(self, 0, now)) return NULL;
    server_advance(&self->server, now);
    for (size_t i = 0; i < self->server.size; i++) {
        ring_t *line = &self->server.paths[i].air.line;
        while (!ring_empty(line) && ring_head(line)->at <= now) {
            frame_t frame = ring_pop(line);
            tell(self, &self->server.paths[i], &frame, frame.at, "out", frame.flip);
            if (frame.duplicated)
                tell(self, &self->server.paths[i], &frame, frame.at, "copy", frame.flip_copy);
        }
    }
    PyObject *told = self->ended, *fresh = PyList_New(0);
    if (server_object_failed(self) || !fresh) {
        Py_XDECREF(fresh);
        return NULL;
    }
    self->ended = fresh;
    if (PyList_Sort(told)) Py_CLEAR(told);
    return told;
}

PyDoc_STRVAR(waiting_doc,
"waiting(path, now_ns) -> int\n\n"
"Bytes that wait for the link at `now_ns`, the frame in service not among them.");

static PyObject *server_object_waiting(ServerObject *self, PyObject *args) {
    Py_ssize_t number;
    long long now;
    if (!PyArg_ParseTuple(args, "nL", &number, &now)) return NULL;
    path_t *path = path_at(self, number, now);
    if (!path) return NULL;
    server_advance(&self->server, now);
    return server_object_failed(self) ? NULL : PyLong_FromLongLong(path->queue.bytes);
}

PyDoc_STRVAR(next_doc,
"next() -> int | None\n\n"
"When to advance next, so that nothing leaves late; None while there is nothing to wait for.");

static PyObject *server_object_next(ServerObject *self, PyObject *Py_UNUSED(args)) {
    int64_t next = server_next(&self->server);
    return next == NEVER ? Py_NewRef(Py_None) : PyLong_FromLongLong(next);
}

static PyMethodDef server_methods[] = {
    {"offer", (PyCFunction)server_object_offer, METH_VARARGS, offer_doc},
    {"change", (PyCFunction)(void (*)(void))server_object_change, METH_VARARGS | METH_KEYWORDS, change_doc},
    {"advance", (PyCFunction)server_object_advance, METH_VARARGS, advance_doc},
    {"waiting", (PyCFunction)server_object_waiting, METH_VARARGS, waiting_doc},
    {"next", (PyCFunction)server_object_next, METH_NOARGS, next_doc},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject server_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "emulation._relay.Server",
    .tp_basicsize = sizeof(ServerObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = server_doc,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)server_object_init,
    .tp_dealloc = (destructor)server_object_dealloc,
    .tp_methods = server_methods,
};

#endif
