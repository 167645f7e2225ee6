#include "publish.h"

#include "reserve.h"
#include "syscalls.h"

#include <errno.h>
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>

/* ---- the parts -------------------------------------------------------- */

static int
give_size(const shm_blueprint *plan, int fd)
{
    if (plan->size == 0) {
        return 0;
    }
    int error = shm_sys_ftruncate(fd, plan->size);
    return error == 0 && plan->reserve ? shm_reserve(fd, plan->size) : error;
}

/* A second descriptor of an object, for reading only.  `path` is its name, or
   NULL. */
static int
open_for_reading(int fd, const char *path, int *reader)
{
    int error = shm_sys_reopen_read_only(fd, reader);
    return error == ENOTSUP && path != NULL ? shm_sys_open(path, O_RDONLY, 0, reader) : error;
}

/* The same for an object that we have made, even if its mode does not allow us
   to read it. */
static int
open_ours_for_reading(int fd, const char *path, int *reader)
{
    int error = open_for_reading(fd, path, reader);
    struct stat st;
    if (error == EACCES && shm_sys_fstat(fd, &st) == 0 && shm_sys_fchmod(fd, S_IRUSR) == 0) {
        error = open_for_reading(fd, path, reader);
        (void)shm_sys_fchmod(fd, st.st_mode & 07777);
    }
    return error;
}

/* Gives a new object its size, and its descriptor the access that is wanted. */
static int
finish_making(const shm_blueprint *plan, const char *path, int *fd)
{
    int reader;
    int error = give_size(plan, *fd);
    if (error != 0 || plan->access != O_RDONLY) {
        return error;
    }
    error = open_ours_for_reading(*fd, path, &reader);
    if (error == 0) {
        (void)shm_sys_close(*fd);
        *fd = reader;
    }
    return error;
}

/* ---- with a step in which the name appears ---------------------------- */

static int
make_unnamed(const shm_blueprint *plan, int *fd)
{
    int made;
    int error = shm_sys_open_unnamed(plan->mode, &made);
    if (error != 0) {
        return error;
    }
    error = finish_making(plan, NULL, &made);
    if (error != 0) {
        (void)shm_sys_close(made);
        return error;
    }
    *fd = made;
    return 0;
}

int
shm_link_over(int fd, const char *path)
{
    char temporary[sizeof "/.psm-" + 16];
    int error = shm_sys_link(fd, path);
    if (error != EEXIST) {
        return error;
    }
    do {
        uint64_t random;
        error = shm_sys_random(&random, sizeof random);
        if (error != 0) {
            return error;
        }
        (void)snprintf(temporary, sizeof temporary, "/.psm-%016" PRIx64, random);
        error = shm_sys_link(fd, temporary);
    } while (error == EEXIST);
    if (error != 0) {
        return error;
    }
    error = shm_sys_rename(temporary, path);
    if (error != 0) {
        (void)shm_sys_unlink(temporary);
    }
    return error;
}

static int
publish_in_one_step(const shm_blueprint *plan, int (*link)(int, const char *), int *fd)
{
    int made;
    int error = make_unnamed(plan, &made);
    if (error != 0) {
        return error;
    }
    error = link(made, plan->path);
    if (error != 0) {
        (void)shm_sys_close(made);
        return error;
    }
    *fd = made;
    return 0;
}

/* ---- without ---------------------------------------------------------- */

static int
publish_in_steps(const shm_blueprint *plan, int *fd)
{
    int made;
    int error = shm_sys_open(plan->path, O_RDWR | O_CREAT | O_EXCL, plan->mode, &made);
    if (error != 0) {
        return error;
    }
    error = finish_making(plan, plan->path, &made);
    if (error != 0) {
        (void)shm_unpublish(made, plan->path);
        (void)shm_sys_close(made);
        return error;
    }
    *fd = made;
    return 0;
}

/* ---- the ways to open ------------------------------------------------- */

/* Spares the memory of a large object that can't have its name. */
static bool
is_in_vain(const shm_blueprint *plan)
{
    struct stat st;
    return shm_is_large(plan->size) && shm_sys_stat(plan->path, &st) == 0;
}

static int
publish_new(const shm_blueprint *plan, int *fd)
{
    if (is_in_vain(plan)) {
        return EEXIST;
    }
    int error = publish_in_one_step(plan, shm_sys_link, fd);
    return error == ENOTSUP ? publish_in_steps(plan, fd) : error;
}

/* Makes the first `length` bytes zeros: without giving up memory that is
   reserved, or by giving up all of it. */
static int
clear(const shm_blueprint *plan, int fd, off_t length)
{
    if (length == 0) {
        return 0;
    }
    if (plan->reserve) {
        return shm_sys_write_zeros(fd, 0, length);
    }
    int error = shm_sys_deallocate(fd, 0, length);
    if (error == ENOTSUP) {
        error = shm_sys_ftruncate(fd, 0);
        error = error != 0 ? error : shm_sys_ftruncate(fd, plan->size);
    }
    return error;
}

/* Nobody finds the object shorter than it was or will be, and what there may
   be no room for comes before what can't be undone. */
static int
truncate_existing(const shm_blueprint *plan, int fd)
{
    struct stat st;
    int error = shm_sys_fstat(fd, &st);
    if (error == 0 && plan->reserve) {
        error = shm_reserve(fd, plan->size);
    }
    if (error == 0) {
        error = shm_sys_ftruncate(fd, plan->size);
    }
    if (error != 0) {
        return error;
    }
    /* Bytes behind the old end, in its last page, would come to light. */
    off_t page = (off_t)shm_sys_page_size_of(fd, &st);
    off_t last_page = st.st_size - st.st_size % page;
    return clear(plan, fd, last_page < plan->size - page ? last_page + page : plan->size);
}

static int
open_existing(const shm_blueprint *plan, bool truncate, int *fd)
{
    if (!truncate) {
        return shm_sys_open(plan->path, plan->access, 0, fd);
    }
    int writer, opened;
    int error = shm_sys_open(plan->path, O_RDWR, 0, &writer);
    if (error != 0) {
        return error;
    }
    /* What may fail first, so that a call that fails empties nothing. */
    opened = writer;
    error = plan->access == O_RDONLY ? open_for_reading(writer, plan->path, &opened) : 0;
    if (error != 0) {
        (void)shm_sys_close(writer);
        return error;
    }
    error = truncate_existing(plan, writer);
    if (opened != writer) {
        (void)shm_sys_close(writer);
    }
    if (error != 0) {
        (void)shm_sys_close(opened);
        return error;
    }
    *fd = opened;
    return 0;
}

int
shm_open_named(const char *path, int oflag, mode_t mode, int *fd)
{
    int error = shm_sys_open(path, oflag, mode, fd);
    if (error == EACCES && oflag & O_CREAT && !(oflag & O_EXCL)) {
        error = shm_sys_open(path, oflag & ~O_CREAT, 0, fd);
        return error == ENOENT ? EACCES : error;
    }
    return error;
}

int
shm_publish(const shm_blueprint *plan, int oflag, int *fd, bool *created)
{
    int error;
    *created = false;
    do {
        if (!(oflag & O_EXCL)) {
            error = open_existing(plan, (oflag & O_TRUNC) != 0, fd);
            if (error != ENOENT || !(oflag & O_CREAT)) {
                return error;
            }
        }
        error = publish_new(plan, fd);
        if (error != EEXIST || oflag & O_EXCL) {
            *created = error == 0;
            return error;
        }
    } while (PyErr_CheckSignals() == 0);
    return SHM_INTERRUPTED;
}

int
shm_supersede(const shm_blueprint *plan, int *fd)
{
    int error = publish_in_one_step(plan, shm_link_over, fd);
    if (error != ENOTSUP) {
        return error;
    }
    do {
        error = shm_sys_unlink(plan->path);
        if (error != 0 && error != ENOENT) {
            return error;
        }
        error = publish_in_steps(plan, fd);
        if (error != EEXIST) {
            return error;
        }
    } while (PyErr_CheckSignals() == 0);
    return SHM_INTERRUPTED;
}

int
shm_draft(const shm_blueprint *plan, bool supersede, int *fd)
{
    if (!supersede && is_in_vain(plan)) {
        return EEXIST;
    }
    int drafted;
    int error = make_unnamed(plan, &drafted);
    if (error != 0) {
        return error;
    }
    error = shm_sys_can_link(drafted);
    if (error != 0) {
        (void)shm_sys_close(drafted);
        return error;
    }
    *fd = drafted;
    return 0;
}

int
shm_unpublish(int fd, const char *path)
{
    struct stat ours, named;
    int error = shm_sys_fstat(fd, &ours);
    if (error == 0) {
        error = shm_sys_stat(path, &named);
        if (error == ENOENT) { /* somebody else did it */
            return 0;
        }
    }
    if (error == 0 && named.st_dev == ours.st_dev && named.st_ino == ours.st_ino) {
        error = shm_sys_unlink(path);
    }
    return error;
}

/* Where there are no objects without a name. */
static int
make_and_unlink(const shm_blueprint *plan, int *fd)
{
    int made;
    int error = publish_in_steps(plan, &made);
    if (error != 0) {
        return error;
    }
    error = shm_sys_unlink(plan->path);
    if (error != 0) {
        (void)shm_sys_close(made);
        return error;
    }
    *fd = made;
    return 0;
}

int
shm_make_nameless(const shm_blueprint *plan, int *fd)
{
    int error = make_unnamed(plan, fd);
    return error == ENOTSUP ? make_and_unlink(plan, fd) : error;
}

int
shm_make_memfd(const shm_blueprint *plan, bool sealable, size_t huge_page_size, int *fd)
{
    int made;
    mode_t umask;
    if (shm_sys_umask(&umask) != 0) {
        umask = 0077; /* the careful one */
    }
    mode_t mode = plan->mode & ~umask;
    int error = shm_sys_memfd(sealable, (mode & 0111) != 0, huge_page_size, &made);
    if (error != 0) {
        return error;
    }
    error = shm_sys_fchmod(made, mode);
    if (error == 0) {
        error = give_size(plan, made);
    }
    if (error != 0) {
        (void)shm_sys_close(made);
        return error;
    }
    *fd = made;
    return 0;
}
