/* Floor 6: SharedMemoryObject, an open descriptor and its name. */
#ifndef SHM_OBJECT_H
#define SHM_OBJECT_H

#include "state.h"

#include <stdbool.h>

int shm_object_init(PyObject *module, shm_state *);

/* A new SharedMemoryObject, an instance of `type`, a subtype of the state's,
   that owns `fd`, opened with `access`; on failure `fd` is still the caller's.
   `name` is canonical, or NULL.  `created`: this call made the object. */
PyObject *shm_object_new(shm_state *, PyTypeObject *type, int fd, int access, PyObject *name,
                         bool created);

#endif
