#include "audit.h"

int
shm_audit_init(shm_state *state)
{
    PyObject *sys = PyImport_ImportModule("sys");
    if (sys == NULL) {
        return -1;
    }
    state->sys_audit = PyObject_GetAttrString(sys, "audit");
    Py_DECREF(sys);
    state->event_open = PyUnicode_InternFromString("posix_shm.open");
    state->event_unlink = PyUnicode_InternFromString("posix_shm.unlink");
    state->event_mmap = PyUnicode_InternFromString("posix_shm.mmap");
    return state->sys_audit != NULL && state->event_open != NULL &&
                   state->event_unlink != NULL && state->event_mmap != NULL
               ? 0
               : -1;
}

/* Consumes what sys.audit returned. */
static int
result(PyObject *none)
{
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}

int
shm_audit_open(shm_state *state, PyObject *name, int oflag, mode_t mode)
{
    PyObject *oflag_object = PyLong_FromLong(oflag);
    PyObject *mode_object = PyLong_FromLong((long)mode);
    PyObject *none = oflag_object == NULL || mode_object == NULL
                         ? NULL
                         : PyObject_CallFunctionObjArgs(state->sys_audit, state->event_open,
                                                        name, oflag_object, mode_object, NULL);
    Py_XDECREF(oflag_object);
    Py_XDECREF(mode_object);
    return result(none);
}

int
shm_audit_unlink(shm_state *state, PyObject *name)
{
    return result(
        PyObject_CallFunctionObjArgs(state->sys_audit, state->event_unlink, name, NULL));
}

int
shm_audit_mmap(shm_state *state, PyObject *what, PyObject *length, int prot, int flags,
               PyObject *offset)
{
    PyObject *prot_object = PyLong_FromLong(prot);
    PyObject *flags_object = PyLong_FromLong(flags);
    PyObject *none =
        prot_object == NULL || flags_object == NULL
            ? NULL
            : PyObject_CallFunctionObjArgs(state->sys_audit, state->event_mmap, what, length,
                                           prot_object, flags_object, offset, NULL);
    Py_XDECREF(prot_object);
    Py_XDECREF(flags_object);
    return result(none);
}
