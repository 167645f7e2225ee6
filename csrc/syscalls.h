/* Floor 2: the only place that makes system calls.  Knows no Python object.

   Each function returns 0, the errno of what failed, or SHM_INTERRUPTED: a
   signal arrived, its Python handler raised, and that exception is set
   (PEP 475).  What can take long lets the GIL go.  Results go through
   pointers and are not touched on failure. */
#ifndef SHM_SYSCALLS_H
#define SHM_SYSCALLS_H

#include "compat.h"

#include <stdbool.h>
#include <sys/stat.h>
#include <sys/types.h>

#define SHM_INTERRUPTED (-1)

/* ---- objects and their names ----------------------------------------- */

int shm_sys_open(const char *path, int oflag, mode_t mode, int *fd);
int shm_sys_unlink(const char *path);
/* A new object that has no name, read-write; ENOTSUP where there is no such
   thing. */
int shm_sys_open_unnamed(mode_t mode, int *fd);
/* One that never has a name, and that can be sealed or of huge pages of
   `huge_page_size` bytes (0: small ones, 1: the system's default); ENOTSUP
   where there is no such thing. */
int shm_sys_memfd(bool sealable, bool executable, size_t huge_page_size, int *fd);
/* 0 if shm_sys_link works here, ENOTSUP if not. */
int shm_sys_can_link(int fd);
/* Gives an unnamed object its name; EEXIST if that is taken. */
int shm_sys_link(int fd, const char *path);
/* The new name is the old one's object from one moment to the next. */
int shm_sys_rename(const char *path, const char *new_path);
/* What has this name; ENOENT if nothing has. */
int shm_sys_stat(const char *path, struct stat *st);
/* The same object again, opened for reading only. */
int shm_sys_reopen_read_only(int fd, int *new_fd);

/* ---- descriptors ------------------------------------------------------ */

/* Never repeated: after EINTR the descriptor is closed all the same. */
int shm_sys_close(int fd);
/* Keeps the GIL: of what is in memory this is known at once. */
int shm_sys_fstat(int fd, struct stat *st);
int shm_sys_fchmod(int fd, mode_t mode);
int shm_sys_fchown(int fd, uid_t owner, gid_t group);
/* O_RDONLY, O_WRONLY or O_RDWR. */
int shm_sys_access_mode(int fd, int *mode);
int shm_sys_close_on_exec(int fd);
int shm_sys_duplicate(int fd, int *new_fd);

/* Reads the umask without changing it for other threads; ENOTSUP where that
   can't be had. */
int shm_sys_umask(mode_t *umask);
/* ENOTSUP where there are no seals. */
int shm_sys_add_seals(int fd, int seals);
int shm_sys_get_seals(int fd, int *seals);
bool shm_sys_is_sealed_against_writing(int fd);

/* ---- room ------------------------------------------------------------- */

int shm_sys_ftruncate(int fd, off_t size);
/* Commits memory for a range; GROW also makes the object that long.
   ENOTSUP where there is no such thing. */
typedef enum { SHM_KEEP_SIZE, SHM_GROW } shm_allocation;
int shm_sys_allocate(int fd, off_t offset, off_t length, shm_allocation);
/* Gives back the memory of a range, which then reads as zeros. */
int shm_sys_deallocate(int fd, off_t offset, off_t length);
/* Writes zeros to a range; without memory for it, ENOSPC. */
int shm_sys_write_zeros(int fd, off_t offset, off_t length);
/* Free bytes of the file system that `fd` is on, or, if it is negative, of
   the one that objects are made on; ENOTSUP if that has no limit. */
int shm_sys_free_bytes(int fd, unsigned long long *bytes);
/* All the memory there is, used or not; ENOTSUP where it isn't told. */
int shm_sys_memory_bytes(unsigned long long *bytes);

/* ---- pages ------------------------------------------------------------ */

size_t shm_sys_page_size(void);
/* Of mappings of this object, which may be of huge pages. */
size_t shm_sys_page_size_of(int fd, const struct stat *st);
int shm_sys_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset,
                 void **pages);
int shm_sys_munmap(void *addr, size_t length);
/* Puts private pages of zeros in the place of whatever is mapped there.  The
   addresses stay taken, so a pointer that somebody kept reads zeros instead
   of crashing or meeting another mapping. */
int shm_sys_bury(void *addr, size_t length);
/* The same, without letting the GIL go. */
int shm_sys_bury_at_once(void *addr, size_t length);
/* Where nothing is mapped; EEXIST if something is. */
int shm_sys_bury_in_gap(void *addr, size_t length);
/* Maps a shared object in the place of what is mapped there.  `untouched`
   tells, if that fails, whether that is there as before. */
int shm_sys_mmap_over(void *addr, size_t length, int prot, int fd, bool *untouched);
/* The same pages at another address, too; ENOTSUP where that can't be had.
   Private changes go there, and only there. */
int shm_sys_duplicate_mapping(void *addr, size_t length, void **pages);
int shm_sys_mprotect(void *addr, size_t length, int prot);
int shm_sys_msync(void *addr, size_t length);
int shm_sys_madvise(void *addr, size_t length, int advice);
/* Faults pages in; EFAULT where there is no memory behind one.  Knows nothing
   of the GIL: threads without a Python state call it. */
int shm_sys_populate(void *addr, size_t length, bool write);
int shm_sys_mlock(void *addr, size_t length);
int shm_sys_munlock(void *addr, size_t length);

/* ---- randomness ------------------------------------------------------- */

int shm_sys_random(void *buffer, size_t length);

#endif
