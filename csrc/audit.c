#include "audit.h"

int
shm_audit(shm_state *state, PyObject *args)
{
    if (args == NULL) {
        return -1;
    }
    PyObject *none = PyObject_Call(state->sys_audit, args, NULL);
    Py_DECREF(args);
    Py_XDECREF(none);
    return none == NULL ? -1 : 0;
}
