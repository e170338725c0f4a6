/* emulation._awake: one function that keeps a processor from going idle. */

#define PY_SSIZE_T_CLEAN
#include <Python.h>

static PyObject *spin(PyObject *module, PyObject *unused) {
    (void)module;
    (void)unused;
    for (;;) /* Until killed. PAUSE leaves a core's other thread, and its power, what a bare loop would take. */
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("isb");
#else
        __asm__ volatile("");
#endif
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    {"spin", spin, METH_NOARGS, "Never return."},
    {NULL, NULL, 0, NULL},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "emulation._awake", NULL, 0, methods, NULL, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__awake(void) { return PyModule_Create(&definition); }
