/* Floor 2: what is better written in Python, and called from here.

   Nothing of this is on the way of a call with the usual arguments. */
#ifndef SHM_UPSTAIRS_H
#define SHM_UPSTAIRS_H

#include "compat.h"

/* Calls `function` of `module`, which is imported if need be.  `args` is a new
   reference and stolen; it may be NULL with an exception set.  `kwargs` may be
   NULL. */
PyObject *shm_call_upstairs(const char *module, const char *function, PyObject *args,
                            PyObject *kwargs);

#endif
