/* Floor 2: audit events.

   Hooks run Python code: look at the state of an object only afterwards.  All
   return -1 if a hook raised. */
#ifndef SHM_AUDIT_H
#define SHM_AUDIT_H

#include "state.h"

/* Finds what the events are raised with. */
void shm_audit_init(shm_state *);

/* An object without a name has None. */
int shm_audit_open(shm_state *, PyObject *name, int oflag, mode_t mode);
int shm_audit_unlink(shm_state *, PyObject *name);
/* `what` is mapped: a name, None, or a descriptor. */
int shm_audit_mmap(shm_state *, PyObject *what, PyObject *length, int prot, int flags,
                   PyObject *offset);

#endif
