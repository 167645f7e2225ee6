#include "syscalls.h"

#include <errno.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>
#ifdef __linux__
#include <sys/sysinfo.h>
#include <sys/uio.h>
#include <sys/vfs.h>
#endif
#ifdef __APPLE__
#include <sys/random.h>
#endif

/* Runs a call that sets errno, without the GIL, once. */
#define CALL_ONCE(error, failed)                                                              \
    do {                                                                                      \
        Py_BEGIN_ALLOW_THREADS;                                                               \
        (error) = (failed) ? errno : 0;                                                       \
        Py_END_ALLOW_THREADS;                                                                 \
    } while (0)

/* The same, again and again while signals interrupt it and their handlers
   have nothing against it. */
#define CALL(error, failed)                                                                   \
    do {                                                                                      \
        CALL_ONCE(error, failed);                                                             \
        if ((error) == EINTR && PyErr_CheckSignals() < 0) {                                   \
            (error) = SHM_INTERRUPTED;                                                        \
        }                                                                                     \
    } while ((error) == EINTR)

/* Mapping and unmapping this many bytes takes no longer than to let the GIL go
   and to get it back.  The interpreter keeps it for its own arenas, too. */
#define BRIEF ((size_t)1 << 20)

/* ---- objects and their names ----------------------------------------- */

int
shm_sys_open(const char *path, int oflag, mode_t mode, int *fd)
{
    int error, opened;
    CALL(error, (opened = shm_open(path, oflag, mode)) < 0);
    if (error == 0) {
        *fd = opened;
    }
    return error;
}

int
shm_sys_unlink(const char *path)
{
    int error;
    CALL(error, shm_unlink(path) < 0);
    return error;
}

#if defined(__linux__) && defined(O_TMPFILE)

/* Where shm_open of glibc and musl puts objects. */
#define OBJECT_DIRECTORY "/dev/shm"

/* What /proc calls an open descriptor of ours. */
typedef struct {
    char path[sizeof "/proc/self/fd/" + 3 * sizeof(int)];
} descriptor_path;

static descriptor_path
path_of_descriptor(int fd)
{
    descriptor_path result;
    (void)snprintf(result.path, sizeof result.path, "/proc/self/fd/%d", fd);
    return result;
}

/* The file that is the object of this name. */
typedef struct {
    char path[sizeof OBJECT_DIRECTORY + 1 + SHM_NAME_MAX];
} object_path;

static object_path
path_of_object(const char *name)
{
    object_path result;
    (void)snprintf(result.path, sizeof result.path, OBJECT_DIRECTORY "%s", name);
    return result;
}

int
shm_sys_open_unnamed(mode_t mode, int *fd)
{
    int error, opened;
    CALL(error, (opened = open(OBJECT_DIRECTORY, O_TMPFILE | O_RDWR | O_CLOEXEC, mode)) < 0);
    if (error == 0) {
        *fd = opened;
    }
    /* What kernels and file systems say that do not know O_TMPFILE. */
    return error == EISDIR || error == EOPNOTSUPP || error == EINVAL ? ENOTSUP : error;
}

int
shm_sys_can_link(int fd)
{
    descriptor_path path = path_of_descriptor(fd);
    return access(path.path, F_OK) < 0 ? ENOTSUP : 0;
}

int
shm_sys_link(int fd, const char *path)
{
    descriptor_path from = path_of_descriptor(fd);
    object_path to = path_of_object(path);
    int error;
    CALL(error, linkat(AT_FDCWD, from.path, AT_FDCWD, to.path, AT_SYMLINK_FOLLOW) < 0);
    return error == ENOENT ? ENOTSUP : error; /* /proc is missing */
}

int
shm_sys_rename(const char *path, const char *new_path)
{
    object_path from = path_of_object(path);
    object_path to = path_of_object(new_path);
    int error;
    CALL(error, rename(from.path, to.path) < 0);
    return error;
}

int
shm_sys_stat(const char *path, struct stat *st)
{
    object_path object = path_of_object(path);
    int error;
    CALL(error, lstat(object.path, st) < 0);
    return error;
}

int
shm_sys_reopen_read_only(int fd, int *new_fd)
{
    descriptor_path path = path_of_descriptor(fd);
    int error, opened;
    CALL(error, (opened = open(path.path, O_RDONLY | O_CLOEXEC)) < 0);
    if (error == 0) {
        *new_fd = opened;
    }
    return error == ENOENT ? ENOTSUP : error; /* /proc is missing */
}

#else

int
shm_sys_open_unnamed(mode_t Py_UNUSED(mode), int *Py_UNUSED(fd))
{
    return ENOTSUP;
}

int
shm_sys_can_link(int Py_UNUSED(fd))
{
    return ENOTSUP;
}

int
shm_sys_link(int Py_UNUSED(fd), const char *Py_UNUSED(path))
{
    return ENOTSUP;
}

int
shm_sys_rename(const char *Py_UNUSED(path), const char *Py_UNUSED(new_path))
{
    return ENOTSUP;
}

int
shm_sys_stat(const char *path, struct stat *st)
{
    int fd;
    int error = shm_sys_open(path, O_RDONLY, 0, &fd);
    if (error == 0) {
        error = shm_sys_fstat(fd, st);
        (void)shm_sys_close(fd);
    }
    return error;
}

int
shm_sys_reopen_read_only(int Py_UNUSED(fd), int *Py_UNUSED(new_fd))
{
    return ENOTSUP;
}

#endif

#if defined(__linux__) && defined(MFD_ALLOW_SEALING)

int
shm_sys_memfd(bool sealable, bool executable, size_t huge_page_size, int *fd)
{
    unsigned int flags = MFD_CLOEXEC | (sealable ? MFD_ALLOW_SEALING : 0);
    if (huge_page_size > 0) {
        flags |= MFD_HUGETLB;
    }
    if (huge_page_size > 1) {
        flags |= (unsigned int)__builtin_ctzll(huge_page_size) << MFD_HUGE_SHIFT;
    }
    /* The flag for it implies that sealing is allowed. */
    unsigned int exec_flag = executable ? MFD_EXEC : sealable ? MFD_NOEXEC_SEAL : 0;
    int error, opened;
    CALL(error, (opened = memfd_create("posix_shm", flags | exec_flag)) < 0);
    if (error == EINVAL && exec_flag != 0) { /* Linux before 6.3 */
        CALL(error, (opened = memfd_create("posix_shm", flags)) < 0);
    }
    if (error == 0) {
        *fd = opened;
    }
    return error;
}

#else

int
shm_sys_memfd(bool Py_UNUSED(sealable), bool Py_UNUSED(executable),
              size_t Py_UNUSED(huge_page_size), int *Py_UNUSED(fd))
{
    return ENOTSUP;
}

#endif

/* ---- descriptors ------------------------------------------------------ */

int
shm_sys_close(int fd)
{
    int error;
    CALL_ONCE(error, close(fd) < 0);
    return error == EINTR ? 0 : error;
}

int
shm_sys_fstat(int fd, struct stat *st)
{
    return fstat(fd, st) < 0 ? errno : 0;
}

int
shm_sys_fchmod(int fd, mode_t mode)
{
    int error;
    CALL(error, fchmod(fd, mode) < 0);
    return error;
}

int
shm_sys_fchown(int fd, uid_t owner, gid_t group)
{
    int error;
    CALL(error, fchown(fd, owner, group) < 0);
    return error;
}

int
shm_sys_access_mode(int fd, int *mode)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0) {
        return errno;
    }
    *mode = flags & O_ACCMODE;
    return 0;
}

int
shm_sys_close_on_exec(int fd)
{
    int flags = fcntl(fd, F_GETFD);
    if (flags < 0 || fcntl(fd, F_SETFD, flags | FD_CLOEXEC) < 0) {
        return errno;
    }
    return 0;
}

int
shm_sys_duplicate(int fd, int *new_fd)
{
    int duplicate = fcntl(fd, F_DUPFD_CLOEXEC, 0);
    if (duplicate < 0) {
        return errno;
    }
    *new_fd = duplicate;
    return 0;
}

int
shm_sys_umask(mode_t *umask)
{
    char status[512]; /* it is the second line */
    int fd = open("/proc/thread-self/status", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return ENOTSUP;
    }
    ssize_t length = read(fd, status, sizeof status - 1);
    (void)close(fd);
    if (length < 0) {
        return ENOTSUP;
    }
    status[length] = 0;
    const char *line = strstr(status, "\nUmask:");
    if (line == NULL) {
        return ENOTSUP;
    }
    *umask = (mode_t)strtoul(line + sizeof "Umask:", NULL, 8);
    return 0;
}

#ifdef F_ADD_SEALS

int
shm_sys_add_seals(int fd, int seals)
{
    return fcntl(fd, F_ADD_SEALS, seals) < 0 ? errno : 0;
}

int
shm_sys_get_seals(int fd, int *seals)
{
    int got = fcntl(fd, F_GET_SEALS);
    if (got < 0 && errno != EINVAL) {
        return errno;
    }
    *seals = got < 0 ? F_SEAL_SEAL : got;
    return 0;
}

bool
shm_sys_is_sealed_against_writing(int fd)
{
    int seals = 0;
    return shm_sys_get_seals(fd, &seals) == 0 &&
           (seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE)) != 0;
}

#else

int
shm_sys_add_seals(int Py_UNUSED(fd), int Py_UNUSED(seals))
{
    return ENOTSUP;
}

int
shm_sys_get_seals(int Py_UNUSED(fd), int *Py_UNUSED(seals))
{
    return ENOTSUP;
}

bool
shm_sys_is_sealed_against_writing(int Py_UNUSED(fd))
{
    return false;
}

#endif

/* ---- room ------------------------------------------------------------- */

int
shm_sys_ftruncate(int fd, off_t size)
{
    int error;
    CALL(error, ftruncate(fd, size) < 0);
    return error;
}

#ifdef __linux__

int
shm_sys_allocate(int fd, off_t offset, off_t length, shm_allocation allocation)
{
    int error;
    CALL(error,
         fallocate(fd, allocation == SHM_GROW ? 0 : FALLOC_FL_KEEP_SIZE, offset, length) < 0);
    return error;
}

int
shm_sys_deallocate(int fd, off_t offset, off_t length)
{
    int error;
    CALL_ONCE(error,
              fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, length) < 0);
    return error;
}

#else

int
shm_sys_allocate(int Py_UNUSED(fd), off_t Py_UNUSED(offset), off_t Py_UNUSED(length),
                 shm_allocation Py_UNUSED(allocation))
{
    return ENOTSUP;
}

int
shm_sys_deallocate(int Py_UNUSED(fd), off_t Py_UNUSED(offset), off_t Py_UNUSED(length))
{
    return ENOTSUP;
}

#endif

int
shm_sys_write_zeros(int fd, off_t offset, off_t length)
{
    static const char zeros[1 << 16];
    while (length > 0) {
        size_t count = length < (off_t)sizeof zeros ? (size_t)length : sizeof zeros;
        ssize_t written;
        int error;
        CALL(error, (written = pwrite(fd, zeros, count, offset)) < 0);
        if (error != 0) {
            return error;
        }
        offset += written;
        length -= written;
    }
    return 0;
}

int
shm_sys_free_bytes(int fd, unsigned long long *bytes)
{
    struct statvfs vfs;
#ifdef OBJECT_DIRECTORY
    if ((fd < 0 ? statvfs(OBJECT_DIRECTORY, &vfs) : fstatvfs(fd, &vfs)) < 0) {
        return errno;
    }
#else
    if (fd < 0) {
        return ENOTSUP;
    }
    if (fstatvfs(fd, &vfs) < 0) {
        return errno;
    }
#endif
    if (vfs.f_blocks == 0) {
        return ENOTSUP;
    }
    *bytes = (unsigned long long)vfs.f_bavail * vfs.f_frsize;
    return 0;
}

int
shm_sys_memory_bytes(unsigned long long *bytes)
{
#ifdef __linux__
    struct sysinfo info;
    if (sysinfo(&info) < 0) {
        return errno;
    }
    *bytes = ((unsigned long long)info.totalram + info.totalswap) * info.mem_unit;
    return 0;
#else
    (void)bytes;
    return ENOTSUP;
#endif
}

/* ---- pages ------------------------------------------------------------ */

size_t
shm_sys_page_size(void)
{
    static atomic_size_t page_size;
    size_t known = atomic_load_explicit(&page_size, memory_order_relaxed);
    if (known == 0) {
        known = (size_t)sysconf(_SC_PAGESIZE);
        atomic_store_explicit(&page_size, known, memory_order_relaxed);
    }
    return known;
}

size_t
shm_sys_page_size_of(int fd, const struct stat *st)
{
    size_t page = shm_sys_page_size();
#ifdef __linux__
    /* A tmpfs says that it likes large blocks, too, but maps small pages. */
    struct statfs fs;
    if ((size_t)st->st_blksize > page && fstatfs(fd, &fs) == 0 &&
        (unsigned long)fs.f_type == HUGETLBFS_MAGIC) {
        return (size_t)st->st_blksize;
    }
#else
    (void)fd;
    (void)st;
#endif
    return page;
}

int
shm_sys_mmap(void *addr, size_t length, int prot, int flags, int fd, off_t offset,
             void **pages)
{
    int error;
    void *mapped;
    if (length <= BRIEF && !(flags & (MAP_POPULATE | MAP_LOCKED))) {
        mapped = mmap(addr, length, prot, flags, fd, offset);
        error = mapped == MAP_FAILED ? errno : 0;
    }
    else {
        CALL(error, (mapped = mmap(addr, length, prot, flags, fd, offset)) == MAP_FAILED);
    }
    if (error == 0) {
        *pages = mapped;
    }
    return error;
}

int
shm_sys_munmap(void *addr, size_t length)
{
    int error;
    if (length <= BRIEF) {
        return munmap(addr, length) < 0 ? errno : 0;
    }
    CALL_ONCE(error, munmap(addr, length) < 0);
    return error;
}

int
shm_sys_bury_at_once(void *addr, size_t length)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    return mmap(addr, length, PROT_READ | PROT_WRITE, flags, -1, 0) == MAP_FAILED ? errno : 0;
}

int
shm_sys_bury(void *addr, size_t length)
{
    int error;
    Py_BEGIN_ALLOW_THREADS;
    error = shm_sys_bury_at_once(addr, length);
    Py_END_ALLOW_THREADS;
    return error;
}

int
shm_sys_bury_in_gap(void *addr, size_t length)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | SHM_MAP_FIXED_NOREPLACE;
    void *pages = mmap(addr, length, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (pages == MAP_FAILED) {
        return errno;
    }
    if (pages != addr) {
        (void)munmap(pages, length);
        return EEXIST;
    }
    return 0;
}

int
shm_sys_mmap_over(void *addr, size_t length, int prot, int fd, bool *untouched)
{
    void *pages;
    int error = shm_sys_mmap(NULL, length, prot, MAP_SHARED, fd, 0, &pages);
    *untouched = error != 0;
    if (error != 0) {
        return error;
    }
#ifdef MREMAP_FIXED
    if (mremap(pages, length, length, MREMAP_MAYMOVE | MREMAP_FIXED, addr) != MAP_FAILED) {
        return 0;
    }
    error = errno;
    (void)shm_sys_munmap(pages, length);
    return error;
#else
    (void)shm_sys_munmap(pages, length); /* it is known to be possible now */
    return shm_sys_mmap(addr, length, prot, MAP_SHARED | MAP_FIXED, fd, 0, &pages);
#endif
}

int
shm_sys_duplicate_mapping(void *addr, size_t length, void **pages)
{
#ifdef MREMAP_MAYMOVE
    /* An old size of 0 leaves the old mapping of shared pages where it is; for
       private ones there is a flag since Linux 5.13. */
    void *duplicate = mremap(addr, 0, length, MREMAP_MAYMOVE);
    if (duplicate == MAP_FAILED) {
        duplicate = mremap(addr, length, length, MREMAP_MAYMOVE | MREMAP_DONTUNMAP);
    }
    if (duplicate == MAP_FAILED) {
        return errno;
    }
    *pages = duplicate;
    return 0;
#else
    (void)addr;
    (void)length;
    (void)pages;
    return ENOTSUP;
#endif
}

int
shm_sys_mprotect(void *addr, size_t length, int prot)
{
    return mprotect(addr, length, prot) < 0 ? errno : 0;
}

int
shm_sys_msync(void *addr, size_t length)
{
    int error;
    CALL(error, msync(addr, length, MS_SYNC) < 0);
    return error;
}

int
shm_sys_madvise(void *addr, size_t length, int advice)
{
    int error;
    CALL(error, madvise(addr, length, advice) < 0);
    return error;
}

#ifdef __linux__

/* For Linux before 5.14: the kernel reads a byte of each page for us, and says
   EFAULT where it would have killed us for reading it ourselves. */
static int
populate_by_reading(char *addr, size_t length)
{
    enum { BATCH = 64 };
    char bytes[BATCH];
    struct iovec pages[BATCH];
    size_t page_size = shm_sys_page_size();
    for (size_t at = 0; at < length;) {
        size_t count = 0;
        for (; count < BATCH && at < length; count++, at += page_size) {
            pages[count] = (struct iovec){.iov_base = addr + at, .iov_len = 1};
        }
        struct iovec local = {.iov_base = bytes, .iov_len = count};
        ssize_t got = process_vm_readv(getpid(), &local, 1, pages, count, 0);
        if (got != (ssize_t)count) {
            return got < 0 ? errno : EFAULT;
        }
    }
    return 0;
}

int
shm_sys_populate(void *addr, size_t length, bool write)
{
    int error;
    do {
        error = madvise(addr, length, write ? MADV_POPULATE_WRITE : MADV_POPULATE_READ) < 0
                    ? errno
                    : 0;
    } while (error == EINTR || error == EAGAIN);
    return error == EINVAL ? populate_by_reading(addr, length) : error;
}

#else

int
shm_sys_populate(void *Py_UNUSED(addr), size_t Py_UNUSED(length), bool Py_UNUSED(write))
{
    return ENOTSUP;
}

#endif

int
shm_sys_mlock(void *addr, size_t length)
{
    int error;
    CALL(error, mlock(addr, length) < 0);
    return error;
}

int
shm_sys_munlock(void *addr, size_t length)
{
    int error;
    CALL(error, munlock(addr, length) < 0);
    return error;
}

/* ---- randomness ------------------------------------------------------- */

int
shm_sys_random(void *buffer, size_t length)
{
    return getentropy(buffer, length) < 0 ? errno : 0;
}
