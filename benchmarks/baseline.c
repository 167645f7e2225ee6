/* The yardstick: what the library does, done in C with the same system calls.

   It is loaded into the measured process, so that both sides work in the same
   address space, and takes its times itself, so that calling it costs nothing.
   Functions that measure return nanoseconds, or an errno made negative. */

#define _GNU_SOURCE

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define SIZE 4096

static int64_t
now(void)
{
    struct timespec t;
    (void)clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

/* ---- many small objects ------------------------------------------------ */

typedef int (*one_object)(const char *name);

/* Does something with each of the objects. */
static int64_t
each(one_object act, const char **names, long count)
{
    int64_t start = now();
    for (long i = 0; i < count; i++) {
        if (act(names[i]) < 0) {
            return -errno;
        }
    }
    return now() - start;
}

/* Maps and touches the object, and lets go of it. */
static int
use(int fd, size_t size)
{
    char *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (pages == MAP_FAILED) {
        return -1;
    }
    *(volatile char *)pages = 1;
    return munmap(pages, size) < 0 || close(fd) < 0 ? -1 : 0;
}

/* The same, asking first how long the object is. */
static int
use_checked(int fd)
{
    struct stat st;
    return fstat(fd, &st) < 0 ? -1 : use(fd, (size_t)st.st_size);
}

static int
make_one(const char *name)
{
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    return fd < 0 || ftruncate(fd, SIZE) < 0 ? -1 : use_checked(fd);
}

static int
create_one(const char *name)
{
    return make_one(name) < 0 ? -1 : shm_unlink(name);
}

static int
create_one_unchecked(const char *name)
{
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    return fd < 0 || ftruncate(fd, SIZE) < 0 || use(fd, SIZE) < 0 ? -1 : shm_unlink(name);
}

/* An object that nobody finds before its memory is reserved. */
static int
publish_one(const char *name)
{
    struct stat st;
    char from[32], to[300];
    (void)snprintf(to, sizeof to, "/dev/shm%s", name);
    int fd = open("/dev/shm", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0 || ftruncate(fd, SIZE) < 0 || fstat(fd, &st) < 0 ||
        fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, SIZE) < 0) {
        return -1;
    }
    (void)snprintf(from, sizeof from, "/proc/self/fd/%d", fd);
    if (linkat(AT_FDCWD, from, AT_FDCWD, to, AT_SYMLINK_FOLLOW) < 0) {
        return -1;
    }
    return use_checked(fd) < 0 ? -1 : shm_unlink(name);
}

static int
attach_one(const char *name)
{
    int fd = shm_open(name, O_RDWR, 0);
    return fd < 0 ? -1 : use_checked(fd);
}

static int
delete_one(const char *name)
{
    return shm_unlink(name);
}

int64_t
make_all(const char **names, long count)
{
    return each(make_one, names, count);
}

int64_t
create_cycles(const char **names, long count)
{
    return each(create_one, names, count);
}

int64_t
unchecked_create_cycles(const char **names, long count)
{
    return each(create_one_unchecked, names, count);
}

int64_t
publish_cycles(const char **names, long count)
{
    return each(publish_one, names, count);
}

int64_t
attach_all(const char **names, long count)
{
    return each(attach_one, names, count);
}

int64_t
delete_all(const char **names, long count)
{
    return each(delete_one, names, count);
}

/* ---- bulk copies ------------------------------------------------------- */

int64_t
copy(char *to, const char *from, size_t size)
{
    int64_t start = now();
    memcpy(to, from, size);
    return now() - start;
}

/* ---- filling a fresh object -------------------------------------------- */

/* Part of an object, for one thread. */
typedef struct {
    char *to;
    const char *from; /* `piece` bytes, over and over */
    size_t size;
    size_t piece;
} part;

static void *
populate_part(void *argument)
{
    part *p = argument;
    return madvise(p->to, p->size, MADV_POPULATE_WRITE) < 0 ? (void *)(intptr_t)errno : NULL;
}

static void *
copy_part(void *argument)
{
    part *p = argument;
    for (size_t done = 0; done < p->size; done += p->piece) {
        size_t length = p->size - done < p->piece ? p->size - done : p->piece;
        memcpy(p->to + done, p->from, length);
    }
    return NULL;
}

/* Has each thread, the calling one among them, do it to its part; 0 or an
   errno. */
static int
share(void *(*work)(void *), part whole, size_t threads)
{
    enum { MOST = 16 };
    pthread_t ids[MOST];
    part parts[MOST];
    void *result;
    threads = threads < MOST ? threads : MOST;
    size_t share_of_each = whole.size / threads / SIZE * SIZE;
    for (size_t i = 0; i < threads; i++) {
        size_t from = share_of_each * i;
        size_t size = i + 1 == threads ? whole.size - from : share_of_each;
        parts[i] = (part){whole.to + from, whole.from, size, whole.piece};
        if (i > 0 && pthread_create(&ids[i], NULL, work, &parts[i]) != 0) {
            abort();
        }
    }
    int error = (int)(intptr_t)work(&parts[0]);
    for (size_t i = 1; i < threads; i++) {
        (void)pthread_join(ids[i], &result);
        error = error != 0 ? error : (int)(intptr_t)result;
    }
    return error;
}

/* Makes an object, fills it with copies of `piece` bytes at `from`, and, after
   the time is taken, deletes it.  `map_flags` are those beside MAP_SHARED;
   `populate_threads` of 0 leaves it to the copy to fault the pages in. */
int64_t
fill(const char *name, size_t size, const char *from, size_t piece, bool reserve,
     int map_flags, size_t populate_threads, size_t copy_threads)
{
    int64_t start = now();
    int fd = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
    if (fd < 0) {
        return -errno;
    }
    if (ftruncate(fd, (off_t)size) < 0 || (reserve && fallocate(fd, 0, 0, (off_t)size) < 0)) {
        return -errno;
    }
    char *pages = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | map_flags, fd, 0);
    if (pages == MAP_FAILED) {
        return -errno;
    }
    part whole = {pages, from, size, piece};
    int error = populate_threads == 0 ? 0 : share(populate_part, whole, populate_threads);
    if (error != 0) {
        return -error;
    }
    (void)share(copy_part, whole, copy_threads);
    int64_t elapsed = now() - start;
    if (munmap(pages, size) < 0 || close(fd) < 0 || shm_unlink(name) < 0) {
        return -errno;
    }
    return elapsed;
}

/* ---- handing an object to another process ------------------------------ */

typedef union {
    char bytes[CMSG_SPACE(sizeof(int))];
    struct cmsghdr align;
} control;

static int
send_descriptor(int to, int fd)
{
    char zero = 0;
    control c = {.bytes = {0}};
    struct iovec data = {&zero, 1};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = c.bytes,
                             .msg_controllen = sizeof c.bytes};
    c.align.cmsg_level = SOL_SOCKET;
    c.align.cmsg_type = SCM_RIGHTS;
    c.align.cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(&c.align), &fd, sizeof fd);
    return sendmsg(to, &message, 0) == 1 ? 0 : -1;
}

/* The descriptor, or -1 at the end of the file. */
static int
receive_descriptor(int from)
{
    int fd;
    char zero;
    control c;
    struct iovec data = {&zero, 1};
    struct msghdr message = {.msg_iov = &data,
                             .msg_iovlen = 1,
                             .msg_control = c.bytes,
                             .msg_controllen = sizeof c.bytes};
    if (recvmsg(from, &message, MSG_CMSG_CLOEXEC) != 1 ||
        message.msg_controllen < sizeof c.bytes) {
        return -1;
    }
    memcpy(&fd, CMSG_DATA(&c.align), sizeof fd);
    return fd;
}

/* The other process: answers each descriptor with the object's two ends. */
static void
serve(int sock)
{
    int fd;
    while ((fd = receive_descriptor(sock)) >= 0) {
        struct stat st;
        char ends[2];
        if (fstat(fd, &st) < 0) {
            _exit(1);
        }
        char *pages = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
        if (pages == MAP_FAILED) {
            _exit(1);
        }
        ends[0] = pages[0];
        ends[1] = pages[st.st_size - 1];
        (void)munmap(pages, (size_t)st.st_size);
        (void)close(fd);
        if (write(sock, ends, sizeof ends) != sizeof ends) {
            _exit(1);
        }
    }
    _exit(0);
}

/* Hands the object to a process that was started before, `count` times. */
int64_t
hand_over(int fd, long count)
{
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) < 0) {
        return -errno;
    }
    pid_t child = fork();
    if (child < 0) {
        return -errno;
    }
    if (child == 0) {
        (void)close(pair[0]);
        serve(pair[1]);
    }
    (void)close(pair[1]);
    int error = 0;
    int64_t start = 0;
    for (long i = -1; i < count && error == 0; i++) { /* the first starts the process */
        char ends[2];
        start = i == 0 ? now() : start;
        if (send_descriptor(pair[0], fd) < 0 || read(pair[0], ends, sizeof ends) != 2) {
            error = EIO;
        }
    }
    int64_t elapsed = now() - start;
    (void)close(pair[0]);
    (void)waitpid(child, NULL, 0);
    return error != 0 ? -error : elapsed;
}
