/* Floor 2: the exceptions, and every way to raise one from an errno. */
#ifndef SHM_ERRORS_H
#define SHM_ERRORS_H

#include "state.h"

/* Makes the exception types. */
int shm_errors_init(PyObject *module, shm_state *);

/* Each sets an exception and returns NULL.

   `error` is what a function of syscalls.h returned; where that was
   SHM_INTERRUPTED, the exception is set already and stays.  `name` is the
   object's, or NULL.  `note` says what to do where the errno does not; it is
   a new reference or NULL, and is stolen. */
PyObject *shm_set_error(shm_state *, int error, PyObject *name, PyObject *note);
PyObject *shm_set_mmap_error(shm_state *, int error, PyObject *name, PyObject *note);
/* A plain OSError, for the bare system calls. */
PyObject *shm_set_os_error(int error, PyObject *name);

#endif
