/* Floor 3: memory that is promised, not hoped for.

   ftruncate reserves nothing: a process that writes into a sparse object on a
   full file system dies of SIGBUS.  Reserving asks for the memory now. */
#ifndef SHM_RESERVE_H
#define SHM_RESERVE_H

#include "compat.h"

#include <stdbool.h>
#include <sys/types.h>

/* Whether an attempt to get this much memory costs others so much that it is
   worth asking first whether it can succeed. */
bool shm_is_large(off_t size);

/* Commits memory for the first `size` bytes, making the object that long if
   it is shorter.  Returns what the functions of syscalls.h return; on failure
   its bytes and its size are as they were.  Where the system has no such call,
   the object only grows. */
int shm_reserve(int fd, off_t size);

/* What to tell a user who got `error` from something that needs memory: a new
   str for ENOSPC, otherwise NULL.  `fd` may be -1. */
PyObject *shm_room_note(int error, int fd);

#endif
