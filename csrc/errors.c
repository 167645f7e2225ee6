#include "errors.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>

/* ---- the types -------------------------------------------------------- */

typedef struct {
    const char *name;
    size_t slot;          /* where the state keeps it */
    PyObject **os_parent; /* beside it, all but two derive from ShmError */
    const char *doc;
} exception_row;

static const exception_row EXCEPTIONS[] = {
    {"posix_shm.ShmError", offsetof(shm_state, ShmError), &PyExc_OSError,
     "An operation on a shared memory object failed.\n\n"
     "Has errno, strerror and filename as OSError does, and name, which is\n"
     "filename.  Source: the seed's shm-error."},
    {"posix_shm.ShmExistsError", offsetof(shm_state, ShmExistsError), &PyExc_FileExistsError,
     "An object of this name exists (EEXIST).  Source: the seed's shm-exists."},
    {"posix_shm.ShmDoesNotExistError", offsetof(shm_state, ShmDoesNotExistError),
     &PyExc_FileNotFoundError,
     "No object of this name exists (ENOENT).  Source: the seed's\n"
     "shm-does-not-exist."},
    {"posix_shm.ShmPermissionError", offsetof(shm_state, ShmPermissionError),
     &PyExc_PermissionError, "The system does not allow it (EACCES, EPERM)."},
    {"posix_shm.MmapError", offsetof(shm_state, MmapError), &PyExc_OSError,
     "An operation on a mapping failed.  Source: the seed's mmap-error."},
};

static PyObject **
slot_in(shm_state *state, size_t offset)
{
    return (PyObject **)((char *)state + offset);
}

static PyObject *
make_exception(shm_state *state, const exception_row *row)
{
    PyObject *bases = row->os_parent == &PyExc_OSError
                          ? PyTuple_Pack(1, PyExc_OSError)
                          : PyTuple_Pack(2, state->ShmError, *row->os_parent);
    /* `name` is OSError's own descriptor of `filename`, under a second name. */
    PyObject *filename = PyObject_GetAttrString(PyExc_OSError, "filename");
    PyObject *members = filename && row->slot == offsetof(shm_state, ShmError)
                            ? Py_BuildValue("{sO}", "name", filename)
                            : PyDict_New();
    PyObject *type = NULL;
    if (bases != NULL && filename != NULL && members != NULL) {
        type = PyErr_NewExceptionWithDoc(row->name, row->doc, bases, members);
    }
    Py_XDECREF(bases);
    Py_XDECREF(filename);
    Py_XDECREF(members);
    return type;
}

int
shm_errors_init(PyObject *module, shm_state *state)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(EXCEPTIONS); i++) {
        PyObject *type = make_exception(state, &EXCEPTIONS[i]);
        if (type == NULL) {
            return -1;
        }
        *slot_in(state, EXCEPTIONS[i].slot) = type;
        if (PyModule_AddType(module, (PyTypeObject *)type) < 0) {
            return -1;
        }
    }
    return 0;
}

/* ---- raising ---------------------------------------------------------- */

static const struct {
    int error;
    size_t slot;
} BY_ERRNO[] = {
    {EEXIST, offsetof(shm_state, ShmExistsError)},
    {ENOENT, offsetof(shm_state, ShmDoesNotExistError)},
    {EACCES, offsetof(shm_state, ShmPermissionError)},
    {EPERM, offsetof(shm_state, ShmPermissionError)},
};

static PyObject *
type_for(shm_state *state, int error)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(BY_ERRNO); i++) {
        if (BY_ERRNO[i].error == error) {
            return *slot_in(state, BY_ERRNO[i].slot);
        }
    }
    return state->ShmError;
}

static PyObject *
set_error(PyObject *type, int error, PyObject *name, PyObject *note)
{
    PyObject *message = NULL;
    PyObject *exception = NULL;
    /* SHM_INTERRUPTED: the handler's exception is set; or making the note has
       failed. */
    if (error < 0 || PyErr_Occurred()) {
        goto done;
    }
    message = PyUnicode_DecodeLocale(strerror(error), "surrogateescape");
    if (message == NULL) {
        goto done;
    }
    exception = name == NULL ? PyObject_CallFunction(type, "iO", error, message)
                             : PyObject_CallFunction(type, "iOO", error, message, name);
    if (exception == NULL) {
        goto done;
    }
    if (note != NULL) {
        PyObject *none = PyObject_CallMethod(exception, "add_note", "O", note);
        if (none == NULL) {
            goto done;
        }
        Py_DECREF(none);
    }
    PyErr_SetObject((PyObject *)Py_TYPE(exception), exception);
done:
    Py_XDECREF(exception);
    Py_XDECREF(message);
    Py_XDECREF(note);
    return NULL;
}

PyObject *
shm_set_error(shm_state *state, int error, PyObject *name, PyObject *note)
{
    return set_error(type_for(state, error), error, name, note);
}

PyObject *
shm_set_mmap_error(shm_state *state, int error, PyObject *name, PyObject *note)
{
    return set_error(state->MmapError, error, name, note);
}

PyObject *
shm_set_os_error(int error, PyObject *name)
{
    return set_error(PyExc_OSError, error, name, NULL);
}
