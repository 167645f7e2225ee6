/* Floor 5: Mapping, the pages of a shared memory object in this process.
   Knows nothing of SharedMemoryObject. */
#ifndef SHM_MAPPING_H
#define SHM_MAPPING_H

#include "args.h"
#include "state.h"

#include <stdbool.h>
#include <sys/types.h>

int shm_mapping_init(PyObject *module, shm_state *);

typedef struct {
    PyObject *name;    /* of the object, or NULL: for messages */
    shm_extent extent; /* of the object */
    void *addr;        /* where the first byte should be, or NULL */
    int prot;
    int flags;
    bool guard;
} shm_mapping_request;

/* What to tell a user to whom the system refuses a mapping: a new reference or
   NULL. */
PyObject *shm_mmap_note(int error, int fd, int prot, int flags);

/* A new mapping of what `fd` refers to.  Needs `fd` no longer than the call
   lasts. */
PyObject *shm_mapping_new(shm_state *, int fd, const shm_mapping_request *);

#endif
