#include "audit.h"

#ifdef Py_LIMITED_API

#include <dlfcn.h>
#include <string.h>

static int
call_sys_audit(PyObject *event_and_args)
{
    PyObject *sys_audit = PySys_GetObject("audit"); /* borrowed */
    if (sys_audit == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "sys.audit is missing");
        return -1;
    }
    PyObject *none = PyObject_CallObject(sys_audit, event_and_args);
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}

/* PySys_Audit, where that can't be found. */
static int
audit_through_python(const char *event, const char *format, ...)
{
    va_list values;
    va_start(values, format);
    PyObject *args = Py_VaBuildValue(format, values);
    va_end(values);
    PyObject *first = Py_BuildValue("(s)", event);
    PyObject *all = args == NULL || first == NULL ? NULL : PySequence_Concat(first, args);
    int result = all == NULL ? -1 : call_sys_audit(all);
    Py_XDECREF(all);
    Py_XDECREF(first);
    Py_XDECREF(args);
    return result;
}

/* Every CPython has it, but the limited API only from 3.13 on.  Calling
   sys.audit instead, and making its arguments, costs a tenth of what this
   library does when it opens and maps an object, hooks or no hooks. */
void
shm_audit_init(shm_state *state)
{
    void *found = dlsym(RTLD_DEFAULT, "PySys_Audit");
    state->audit = audit_through_python;
    if (found != NULL) {
        memcpy(&state->audit, &found, sizeof found);
    }
}

#else

void
shm_audit_init(shm_state *state)
{
    state->audit = PySys_Audit;
}

#endif

int
shm_audit_open(shm_state *state, PyObject *name, int oflag, mode_t mode)
{
    return state->audit("posix_shm.open", "(Oii)", name, oflag, (int)mode);
}

int
shm_audit_unlink(shm_state *state, PyObject *name)
{
    return state->audit("posix_shm.unlink", "(O)", name);
}

int
shm_audit_mmap(shm_state *state, PyObject *what, PyObject *length, int prot, int flags,
               PyObject *offset)
{
    return state->audit("posix_shm.mmap", "(OOiiO)", what, length, prot, flags, offset);
}
