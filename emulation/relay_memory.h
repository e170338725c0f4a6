/* The relay's memory kept where it is. */
#ifndef FEDCELL_RELAY_MEMORY_H
#define FEDCELL_RELAY_MEMORY_H

#include <Python.h>

#include <sys/mman.h>
#include <sys/resource.h>

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

#endif
