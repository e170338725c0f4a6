/* The clockwork that documents of emulation/relay_parameters.py describe. */
#ifndef FEDCELL_RELAY_DOCUMENT_H
#define FEDCELL_RELAY_DOCUMENT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

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
    size_t instants;
    const int64_t *trace = packed_of(document, "trace_ns", &instants);
    if (trace) server->trace = (trace_t){.instants = trace, .size = instants};
    PyObject *seed = PyDict_GetItemString(document, "seed");
    uint64_t value = seed ? PyLong_AsUnsignedLongLong(seed) : 0;
    if (PyErr_Occurred()) return -1;
    if (!(path->rate_bps > 0) || (path->air.jitter_table && path->air.jitter_table_size < 2) ||
        (trace && (instants < 1 || trace[instants - 1] <= 0))) {
        PyErr_SetString(PyExc_ValueError, "a path needs a rate, a table two values, a trace a period");
        return -1;
    }
    if (path_start(path, server, value, now)) return 0;
    PyErr_NoMemory();
    return -1;
}

/* All servers and their paths, which are numbered in the order of the servers they begin at. */
typedef struct {
    server_t *servers;
    path_t *paths;
    uint32_t server_count, path_count;
} clockwork_t;

static void clockwork_free(clockwork_t *all) {
    for (uint32_t s = 0; all->servers && s < all->server_count; s++) free(all->servers[s].paths);
    for (uint32_t p = 0; all->paths && p < all->path_count; p++) path_free(&all->paths[p]);
    free(all->servers);
    free(all->paths);
    *all = (clockwork_t){0};
}

/* One server of a list's (scheduler, documents of its paths); the paths are `paths`. -1: exception. */
static int server_from(const char *scheduler, PyObject *documents, server_t *server, path_t *paths,
                       int64_t now) {
    if (strcmp(scheduler, "round_robin") && strcmp(scheduler, "proportional_fair")) {
        PyErr_Format(PyExc_ValueError, "there is no scheduler %s", scheduler);
        return -1;
    }
    server->scheduler = *scheduler == 'r' ? ROUND_ROBIN : PROPORTIONAL_FAIR;
    for (Py_ssize_t i = 0; i < PyList_GET_SIZE(documents); i++)
        if (path_from(PyList_GET_ITEM(documents, i), &paths[i], server, now)) return -1;
    if (server->trace.instants && server->size > 1) {
        PyErr_SetString(PyExc_ValueError, "a path with a trace has a server of its own");
        return -1;
    }
    server_start(server, now);
    return 0;
}

/* Make all of a list of (scheduler, documents). -1: exception, and clockwork_free() is due all the same. */
static int clockwork_from(PyObject *list, clockwork_t *all, int64_t now) {
    const char *scheduler;
    PyObject *documents;
    size_t servers = (size_t)PyList_GET_SIZE(list), paths = 0;
    for (size_t s = 0; s < servers; s++, paths += (size_t)PyList_GET_SIZE(documents)) {
        PyObject *server = PyList_GET_ITEM(list, (Py_ssize_t)s);
        if (!PyArg_ParseTuple(server, "sO!", &scheduler, &PyList_Type, &documents)) return -1;
    }
    all->servers = calloc(servers + 1, sizeof *all->servers);
    all->paths = calloc(paths + 1, sizeof *all->paths);
    if (!all->servers || !all->paths) {
        PyErr_NoMemory();
        return -1;
    }
    all->server_count = (uint32_t)servers;
    all->path_count = (uint32_t)paths;
    path_t *path = all->paths;
    for (size_t s = 0; s < servers; s++) {
        PyArg_ParseTuple(PyList_GET_ITEM(list, (Py_ssize_t)s), "sO", &scheduler, &documents);
        if (server_from(scheduler, documents, &all->servers[s], path, now)) return -1;
        path += PyList_GET_SIZE(documents);
    }
    return 0;
}

#endif
