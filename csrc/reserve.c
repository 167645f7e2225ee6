#include "reserve.h"

#include "syscalls.h"

#include <errno.h>

/* Signal handlers run between pieces, and a call that signals interrupt over
   and over still gets somewhere. */
#define PIECE ((off_t)64 << 20)

bool
shm_is_large(off_t size)
{
    return size > (off_t)1 << 20;
}

/* Whether there is surely too little memory.  Then nothing is even tried: on
   its way to failure the attempt would take what others need. */
static int
is_hopeless(int fd, const struct stat *st, off_t size)
{
    unsigned long long allocated = (unsigned long long)st->st_blocks * 512;
    unsigned long long wanted = (unsigned long long)size;
    unsigned long long available;
    if (wanted <= allocated) {
        return 0;
    }
    wanted -= allocated;
    return (shm_sys_free_bytes(fd, &available) == 0 && wanted > available) ||
           (shm_sys_memory_bytes(&available) == 0 && wanted > available);
}

/* Gives back what was reserved past the end, up to `reserved`.  Not what lies
   before the end: which of it is ours and which a peer has written to since
   can't be told apart, and losing its bytes would be worse. */
static void
undo(int fd, off_t reserved)
{
    struct stat st;
    if (shm_sys_fstat(fd, &st) != 0) {
        return;
    }
    off_t page = (off_t)shm_sys_page_size_of(fd, &st);
    if (st.st_size >= reserved) {
        return;
    }
    off_t end = (st.st_size + page - 1) / page * page;
    if (end < reserved) {
        (void)shm_sys_deallocate(fd, end, reserved - end);
    }
}

int
shm_reserve(int fd, off_t size)
{
    struct stat st;
    int error = shm_sys_fstat(fd, &st);
    if (error != 0 || size == 0) {
        return error;
    }
    if (size < 0) {
        return EINVAL;
    }
    if (shm_is_large(size) && is_hopeless(fd, &st, size)) {
        return ENOSPC;
    }
    off_t done = 0;
    while (error == 0 && done < size) {
        off_t piece = size - done < PIECE ? size - done : PIECE;
        error = shm_sys_allocate(fd, done, piece, SHM_KEEP_SIZE);
        done += error == 0 ? piece : 0;
        if (error == 0 && PyErr_CheckSignals() < 0) {
            error = SHM_INTERRUPTED;
        }
    }
    if (error == 0 && st.st_size < size) {
        error = shm_sys_allocate(fd, size - 1, 1, SHM_GROW);
    }
    if (error == ENOTSUP && done == 0) {
        return st.st_size < size ? shm_sys_ftruncate(fd, size) : 0;
    }
    if (error != 0) {
        undo(fd, done);
    }
    return error;
}

PyObject *
shm_room_note(int error, int fd)
{
    unsigned long long bytes;
    if (error != ENOSPC) {
        return NULL;
    }
    if (shm_sys_free_bytes(fd, &bytes) != 0) {
        return PyUnicode_FromString("there is not that much memory");
    }
    return PyUnicode_FromFormat("%llu bytes are free in the file system of shared memory "
                                "(/dev/shm on Linux); a container sets its size (docker run "
                                "--shm-size)",
                                bytes);
}
