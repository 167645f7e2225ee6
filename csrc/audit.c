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

static int
audit(shm_state *state, PyObject *const *event, Py_ssize_t count)
{
    PyObject *none = shm_vectorcall(state->sys_audit, event, count);
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}

int
shm_audit_open(shm_state *state, PyObject *name, int oflag, mode_t mode)
{
    PyObject *oflag_object = PyLong_FromLong(oflag);
    PyObject *mode_object = mode == SHM_DEFAULT_MODE ? Py_NewRef(state->default_mode)
                                                     : PyLong_FromLong((long)mode);
    PyObject *event[] = {state->event_open, name, oflag_object, mode_object};
    int result = oflag_object == NULL || mode_object == NULL
                     ? -1
                     : audit(state, event, Py_ARRAY_LENGTH(event));
    Py_XDECREF(oflag_object);
    Py_XDECREF(mode_object);
    return result;
}

int
shm_audit_unlink(shm_state *state, PyObject *name)
{
    PyObject *event[] = {state->event_unlink, name};
    return audit(state, event, Py_ARRAY_LENGTH(event));
}

int
shm_audit_mmap(shm_state *state, PyObject *what, PyObject *length, int prot, int flags,
               PyObject *offset)
{
    PyObject *prot_object = PyLong_FromLong(prot);
    PyObject *flags_object = PyLong_FromLong(flags);
    PyObject *event[] = {state->event_mmap, what, length, prot_object, flags_object, offset};
    int result = prot_object == NULL || flags_object == NULL
                     ? -1
                     : audit(state, event, Py_ARRAY_LENGTH(event));
    Py_XDECREF(prot_object);
    Py_XDECREF(flags_object);
    return result;
}
