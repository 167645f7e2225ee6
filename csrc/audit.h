/* Floor 2: audit events. */
#ifndef SHM_AUDIT_H
#define SHM_AUDIT_H

#include "state.h"

/* Raises an event; `args`, a new reference or NULL with an exception set, is
   the tuple of its name and arguments, and is stolen.  Hooks run Python code:
   look at the state of an object only afterwards. */
int shm_audit(shm_state *, PyObject *args);

#endif
