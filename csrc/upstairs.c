#include "upstairs.h"

PyObject *
shm_call_upstairs(const char *module, const char *function, PyObject *args, PyObject *kwargs)
{
    PyObject *result = NULL;
    PyObject *imported = args == NULL ? NULL : PyImport_ImportModule(module);
    PyObject *callable = imported == NULL ? NULL : PyObject_GetAttrString(imported, function);
    if (callable != NULL) {
        result = PyObject_Call(callable, args, kwargs);
    }
    Py_XDECREF(callable);
    Py_XDECREF(imported);
    Py_XDECREF(args);
    return result;
}
