/* Floor 6: SharedMemoryObject, an open descriptor and its name. */
#ifndef SHM_OBJECT_H
#define SHM_OBJECT_H

#include "state.h"

#include <stdbool.h>

int shm_object_init(PyObject *module, shm_state *);

/* A closed SharedMemoryObject.  `name` is canonical, or NULL. */
PyObject *shm_object_new(shm_state *, PyObject *name);

/* Opens one that was never open: it owns `fd`, which was opened with `access`.
   `created`: the object is a new one.  Can't fail, so that whoever changes
   something in the system has made the Python object before. */
void shm_object_open(PyObject *, int fd, int access, bool created);

/* Removes a name from whatever object has it; returns None. */
PyObject *shm_delete(shm_state *, PyObject *name);

#endif
