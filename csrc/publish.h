/* Floor 4: making objects so that nobody finds one half made.

   On Linux an object is made without a name, sized, given its memory, and
   then linked to its name in one step, which fails if the name is taken; or
   linked under a temporary name and renamed over the old object.  A crash on
   the way leaves nothing, but for the moment between those last two calls.
   Elsewhere it is made under its name and sized afterwards. */
#ifndef SHM_PUBLISH_H
#define SHM_PUBLISH_H

#include "compat.h"

#include <stdbool.h>
#include <sys/types.h>

typedef struct {
    const char *path;
    int access; /* O_RDONLY or O_RDWR, of the descriptor that comes back */
    mode_t mode;
    off_t size;
    bool reserve; /* commit memory for all of it */
} shm_blueprint;

/* All return what the functions of syscalls.h return. */

/* Opens what `oflag` says (O_CREAT, O_EXCL, O_TRUNC, as for shm_open).
   `created` tells whether the object is a new one. */
int shm_publish(const shm_blueprint *, int oflag, int *fd, bool *created);
/* The name refers to a new object afterwards, whatever it was before. */
int shm_supersede(const shm_blueprint *, int *fd);
/* A new object without its name, so that it can be filled before shm_sys_link
   or shm_link_over gives it one; ENOTSUP where there is no such thing. */
int shm_draft(const shm_blueprint *, bool supersede, int *fd);
/* Puts an unnamed object in the place of whatever has the name. */
int shm_link_over(int fd, const char *path);
/* Takes the name away again, if it is still this object's. */
int shm_unpublish(int fd, const char *path);
/* shm_open, but an object of another user that fs.protected_regular refuses to
   O_CREAT is opened without it. */
int shm_open_named(const char *path, int oflag, mode_t mode, int *fd);
/* A new object that has no name; where there are none, one under this name,
   which is taken away at once. */
int shm_make_nameless(const shm_blueprint *, int *fd);
/* A new object that never had a name (memfd_create), always read-write. */
int shm_make_memfd(const shm_blueprint *, bool sealable, size_t huge_page_size, int *fd);

#endif
