/* The clockwork in virtual time as a Python object, for tests. */
#ifndef FEDCELL_RELAY_VIRTUAL_H
#define FEDCELL_RELAY_VIRTUAL_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>
#include <limits.h>

#include "relay_document.h"

typedef struct {
    PyObject_HEAD
    clockwork_t all;
    PyObject *documents; /* whose tables the paths read */
    PyObject *ended;     /* what has ended since advance() last told */
    int64_t now;
    long long offered;
    bool failed; /* an exception is set */
} ClockworkObject;

static void tell(ClockworkObject *self, const path_t *path, const frame_t *frame, int64_t when,
                 const char *fate, uint32_t flip) {
    PyObject *entry = Py_BuildValue("(LnnsI)", (long long)when, (Py_ssize_t)(path - self->all.paths),
                                    (Py_ssize_t)(intptr_t)frame->data, fate, (unsigned)flip);
    if (!entry || PyList_Append(self->ended, entry)) self->failed = true;
    Py_XDECREF(entry);
}

static void tell_drop(path_t *path, const frame_t *frame, int64_t when, fate_t fate) {
    static const char *names[] = {"queue", "aqm", "loss"};
    tell(path->owner, path, frame, when, names[fate], 0);
}

PyDoc_STRVAR(clockwork_doc,
"Clockwork(servers, start_ns=0)\n\n"
"What the relay's loop does to frames, without the frames, in virtual time. `servers` and the numbers of\n"
"paths are run()'s. Times never go back.");

static void clockwork_object_clear(ClockworkObject *self) {
    clockwork_free(&self->all);
    Py_CLEAR(self->documents);
    Py_CLEAR(self->ended);
}

static int clockwork_object_init(ClockworkObject *self, PyObject *args, PyObject *kwargs) {
    static char *names[] = {"servers", "start_ns", NULL};
    long long start = 0;
    PyObject *documents;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O!|L", names, &PyList_Type, &documents, &start)) return -1;
    clockwork_object_clear(self);
    self->documents = Py_NewRef(documents);
    self->now = start;
    if (!(self->ended = PyList_New(0)) || clockwork_from(documents, &self->all, start)) return -1;
    for (uint32_t s = 0; s < self->all.server_count; s++) self->all.servers[s].ended = tell_drop;
    for (uint32_t p = 0; p < self->all.path_count; p++) self->all.paths[p].owner = self;
    return 0;
}

static void clockwork_object_dealloc(ClockworkObject *self) {
    clockwork_object_clear(self);
    Py_TYPE(self)->tp_free((PyObject *)self);
}

/* The path numbered, once `now` is no time gone by; NULL: exception. */
static path_t *path_at(ClockworkObject *self, Py_ssize_t number, long long now) {
    if (number < 0 || number >= self->all.path_count || now < self->now) {
        PyErr_Format(PyExc_ValueError, "path %zd at %lld ns: no such path, or time went back", number, now);
        return NULL;
    }
    self->now = now;
    return &self->all.paths[number];
}

static int clockwork_object_failed(ClockworkObject *self) {
    for (uint32_t s = 0; s < self->all.server_count && !PyErr_Occurred(); s++)
        if (self->all.servers[s].no_memory) PyErr_NoMemory();
    return self->failed || PyErr_Occurred();
}

PyDoc_STRVAR(offer_doc,
"offer(path, now_ns, length) -> int\n\n"
"Offer path number `path` a frame of `length` bytes; the frame's number, counted over all paths from 0.");

static PyObject *clockwork_object_offer(ClockworkObject *self, PyObject *args) {
    Py_ssize_t number;
    long long now, length;
    if (!PyArg_ParseTuple(args, "nLL", &number, &now, &length)) return NULL;
    if (length <= 0 || length > INT_MAX) return PyErr_Format(PyExc_ValueError, "%lld bytes", length);
    path_t *path = path_at(self, number, now);
    if (!path) return NULL;
    path_offer(path, now, (uint32_t)length, (void *)(intptr_t)self->offered);
    return clockwork_object_failed(self) ? NULL : PyLong_FromLongLong(self->offered++);
}

PyDoc_STRVAR(change_doc,
"change(path, now_ns, rate_bps=nan, delay_s=nan, loss=nan, up=nan)\n\n"
"Change a path from `now_ns` on; NaN stays as it is.");

static PyObject *clockwork_object_change(ClockworkObject *self, PyObject *args, PyObject *kwargs) {
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
    return clockwork_object_failed(self) ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(move_doc,
"move(path, now_ns, server)\n\n"
"Have a path share the air of server number `server` from `now_ns` on.");

static PyObject *clockwork_object_move(ClockworkObject *self, PyObject *args) {
    Py_ssize_t number, server;
    long long now;
    if (!PyArg_ParseTuple(args, "nLn", &number, &now, &server)) return NULL;
    path_t *path = path_at(self, number, now);
    if (!path) return NULL;
    if (server < 0 || server >= self->all.server_count || path->server->trace.instants ||
        self->all.servers[server].trace.instants)
        return PyErr_Format(PyExc_ValueError, "no server %zd, or a trace's", server);
    path_move(path, now, &self->all.servers[server]);
    return clockwork_object_failed(self) ? NULL : Py_NewRef(Py_None);
}

PyDoc_STRVAR(advance_doc,
"advance(now_ns) -> list[tuple[int, int, int, str, int]]\n\n"
"What ended since the call before: (when, path, frame number, fate, bit flipped or 0), in the order of\n"
"time. Fates: \"out\", \"copy\" (a duplicate, out too), \"queue\" (tail drop), \"aqm\", \"loss\".");

static PyObject *clockwork_object_advance(ClockworkObject *self, PyObject *args) {
    long long now;
    if (!PyArg_ParseTuple(args, "L", &now) || !path_at(self, 0, now)) return NULL;
    for (uint32_t s = 0; s < self->all.server_count; s++) server_advance(&self->all.servers[s], now);
    for (uint32_t p = 0; p < self->all.path_count; p++) {
        path_t *path = &self->all.paths[p];
        ring_t *line = &path->air.line;
        while (!ring_empty(line) && ring_head(line)->at <= now) {
            frame_t frame = ring_pop(line);
            tell(self, path, &frame, frame.at, "out", frame.flip);
            if (frame.duplicated) tell(self, path, &frame, frame.at, "copy", frame.flip_copy);
        }
    }
    PyObject *told = self->ended, *fresh = PyList_New(0);
    if (clockwork_object_failed(self) || !fresh) {
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

static PyObject *clockwork_object_waiting(ClockworkObject *self, PyObject *args) {
    Py_ssize_t number;
    long long now;
    if (!PyArg_ParseTuple(args, "nL", &number, &now)) return NULL;
    path_t *path = path_at(self, number, now);
    if (!path) return NULL;
    server_advance(path->server, now);
    return clockwork_object_failed(self) ? NULL : PyLong_FromLongLong(path->queue.bytes);
}

PyDoc_STRVAR(next_doc,
"next() -> int | None\n\n"
"When to advance next, so that nothing leaves late; None while there is nothing to wait for.");

static PyObject *clockwork_object_next(ClockworkObject *self, PyObject *Py_UNUSED(args)) {
    int64_t next = NEVER;
    for (uint32_t s = 0; s < self->all.server_count; s++) {
        int64_t due = server_next(&self->all.servers[s]);
        if (due < next) next = due;
    }
    return next == NEVER ? Py_NewRef(Py_None) : PyLong_FromLongLong(next);
}

static PyMethodDef clockwork_methods[] = {
    {"offer", (PyCFunction)clockwork_object_offer, METH_VARARGS, offer_doc},
    {"change", (PyCFunction)(void (*)(void))clockwork_object_change, METH_VARARGS | METH_KEYWORDS, change_doc},
    {"move", (PyCFunction)clockwork_object_move, METH_VARARGS, move_doc},
    {"advance", (PyCFunction)clockwork_object_advance, METH_VARARGS, advance_doc},
    {"waiting", (PyCFunction)clockwork_object_waiting, METH_VARARGS, waiting_doc},
    {"next", (PyCFunction)clockwork_object_next, METH_NOARGS, next_doc},
    {NULL, NULL, 0, NULL},
};

static PyTypeObject clockwork_type = {
    PyVarObject_HEAD_INIT(NULL, 0).tp_name = "emulation._relay.Clockwork",
    .tp_basicsize = sizeof(ClockworkObject),
    .tp_flags = Py_TPFLAGS_DEFAULT,
    .tp_doc = clockwork_doc,
    .tp_new = PyType_GenericNew,
    .tp_init = (initproc)clockwork_object_init,
    .tp_dealloc = (destructor)clockwork_object_dealloc,
    .tp_methods = clockwork_methods,
};

#endif
