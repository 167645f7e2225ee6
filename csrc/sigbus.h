/* Floor 3: the guard.

   Touching a page of a shared mapping that has no memory behind it, because a
   peer made the object shorter or because there is no memory left, raises
   SIGBUS, which kills the process.  In a guarded range the handler maps a page
   of zeros there instead and lets the access go on, whoever made it, in
   whatever thread.  Every other SIGBUS goes to whoever would have got it.

   Signal handlers belong to the process, not to an interpreter: so does the
   table of guarded ranges, and it is the only state outside the module's. */
#ifndef SHM_SIGBUS_H
#define SHM_SIGBUS_H

#include "compat.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct shm_guard shm_guard;

/* Guards `length` bytes of pages of `page_size` bytes from `start` on, and sets
   `faulted` when it has to replace one.  Returns 0 or an errno. */
int shm_guard_add(void *start, size_t length, size_t page_size, int prot, atomic_bool *faulted,
                  shm_guard **);
/* Ends it.  No handler is at work on the range when it returns. */
void shm_guard_remove(shm_guard *);
/* The pages have moved to `start`. */
void shm_guard_move(shm_guard *, void *start);
/* Pages of zeros get this protection from now on. */
void shm_guard_protect(shm_guard *, int prot);

#endif
