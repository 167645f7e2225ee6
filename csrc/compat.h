/* Floor 0: what differs between Python versions and between platforms, and
   nothing else.  Everything above is written once. */
#ifndef SHM_COMPAT_H
#define SHM_COMPAT_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <sys/mman.h>

/* ---- Python ---------------------------------------------------------- */

/* Ids and values that the 3.11 headers do not know yet; module.c offers them
   only to an interpreter that does. */
#define SHM_MOD_MULTIPLE_INTERPRETERS 3
#define SHM_MOD_PER_INTERPRETER_GIL_SUPPORTED ((void *)2)
#define SHM_MOD_GIL 4
#define SHM_MOD_GIL_NOT_USED ((void *)1)

/* A lock for what the GIL protects where there is one. */
#ifdef Py_GIL_DISABLED
typedef PyMutex shm_mutex;
#define shm_mutex_lock(mutex) PyMutex_Lock(mutex)
#define shm_mutex_unlock(mutex) PyMutex_Unlock(mutex)
#else
typedef char shm_mutex;
#define shm_mutex_lock(mutex) ((void)(mutex))
#define shm_mutex_unlock(mutex) ((void)(mutex))
#endif

/* Runs our tp_finalize from tp_dealloc; -1 means that it made the object alive
   again.  A subclass's has been run by then.  The limited API has no call for
   it. */
#ifdef Py_LIMITED_API
static inline int
shm_finalize_from_dealloc(PyObject *self, void (*finalize)(PyObject *))
{
    if (PyType_GetSlot(Py_TYPE(self), Py_tp_finalize) != (void *)finalize) {
        return 0;
    }
    Py_SET_REFCNT(self, 1);
    finalize(self);
    Py_SET_REFCNT(self, Py_REFCNT(self) - 1);
    return Py_REFCNT(self) == 0 ? 0 : -1;
}
#else
static inline int
shm_finalize_from_dealloc(PyObject *self, void (*finalize)(PyObject *))
{
    return Py_TYPE(self)->tp_finalize == finalize ? PyObject_CallFinalizerFromDealloc(self)
                                                  : 0;
}
#endif

/* ---- platforms ------------------------------------------------------- */

/* The longest name, in bytes, without its slash. */
#if defined(__APPLE__)
#define SHM_NAME_MAX 30
#elif defined(__FreeBSD__)
#define SHM_NAME_MAX 1022
#else
#define SHM_NAME_MAX NAME_MAX
#endif

/* MAP_FIXED that never replaces a mapping.  Where it is missing the address
   is a hint only, and the caller looks at what came back. */
#if defined(MAP_FIXED_NOREPLACE)
#define SHM_MAP_FIXED_NOREPLACE MAP_FIXED_NOREPLACE
#elif defined(MAP_EXCL)
#define SHM_MAP_FIXED_NOREPLACE (MAP_FIXED | MAP_EXCL)
#else
#define SHM_MAP_FIXED_NOREPLACE 0
#endif

#ifndef MAP_ANONYMOUS
#define MAP_ANONYMOUS MAP_ANON
#endif
/* A map flag that is missing on a platform asks for nothing. */
#ifndef MAP_NORESERVE
#define MAP_NORESERVE 0
#endif
#ifndef MAP_GROWSDOWN
#define MAP_GROWSDOWN 0
#endif
#ifndef MAP_POPULATE
#define MAP_POPULATE 0
#endif
#ifndef MAP_LOCKED
#define MAP_LOCKED 0
#endif

/* Where the stack was when a signal came, from its handler's ucontext_t; 0
   where we don't know how to find out. */
#if defined(__linux__) && defined(__x86_64__)
#define SHM_STACK_POINTER(context) ((uintptr_t)(context)->uc_mcontext.gregs[REG_RSP])
#elif defined(__linux__) && defined(__aarch64__)
#define SHM_STACK_POINTER(context) ((uintptr_t)(context)->uc_mcontext.sp)
#else
#define SHM_STACK_POINTER(context) ((uintptr_t)0)
#endif

/* Whether a SIGBUS with this code is for want of a page: not for a misaligned
   access, nor for broken memory that nobody has accessed. */
#ifdef BUS_MCEERR_AO
#define SHM_IS_MISSING_PAGE(code) ((code) != BUS_ADRALN && (code) != BUS_MCEERR_AO)
#else
#define SHM_IS_MISSING_PAGE(code) ((code) != BUS_ADRALN)
#endif

/* Thread-local storage that exists from a thread's start. */
#if defined(__ELF__)
#define SHM_STATIC_TLS __attribute__((tls_model("initial-exec")))
#else
#define SHM_STATIC_TLS
#endif

/* What the kernel may know though the headers do not. */
#ifdef __linux__
#ifndef MADV_COLD
#define MADV_COLD 20
#define MADV_PAGEOUT 21
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ 22
#define MADV_POPULATE_WRITE 23
#endif
#ifndef MREMAP_DONTUNMAP
#define MREMAP_DONTUNMAP 4
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif
#ifndef F_SEAL_FUTURE_WRITE
#define F_SEAL_FUTURE_WRITE 0x0010
#endif
#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 8U
#define MFD_EXEC 16U
#endif
#ifndef MFD_HUGE_SHIFT
#define MFD_HUGE_SHIFT 26
#endif
#ifndef HUGETLBFS_MAGIC
#define HUGETLBFS_MAGIC 0x958458f6
#endif
#endif

#endif
