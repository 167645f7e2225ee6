/* Floor 3: faulting pages in ahead of use, in several threads. */
#ifndef SHM_POPULATE_H
#define SHM_POPULATE_H

#include "compat.h"

#include <stdbool.h>

/* Faults in the pages of a mapping, for writing or for reading.  `workers`
   threads share them, the calling one among them, which lets the GIL go and
   runs signal handlers now and then.  Returns what the functions of syscalls.h
   return; EFAULT where there is no memory behind a page. */
int shm_populate(void *start, size_t length, bool write, int workers);

#endif
