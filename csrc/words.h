/* Floor 4: words, and what they mean to the system.

   All may run Python code, and return -1 with an exception set. */
#ifndef SHM_WORDS_H
#define SHM_WORDS_H

#include "state.h"

#include <stdbool.h>
#include <sys/types.h>

/* What the three words that say how to open an object come to. */
typedef struct {
    int oflag;
    bool supersede;
    bool none_if_exists;
    bool none_if_missing;
} shm_way;

int shm_way_from(const shm_state *, PyObject *direction, PyObject *if_exists,
                 PyObject *if_does_not_exist, shm_way *way);

/* An int, a word, or an iterable of these.  `kind` is the table of words in
   posix_shm._flags. */
int shm_flags_from(const shm_state *, shm_string kind, PyObject *arg, int *flags);
int shm_permissions_from(const shm_state *, PyObject *arg, mode_t *mode);

#endif
