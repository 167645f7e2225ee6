/* Floor 1: what one interpreter's copy of the module holds.

   Functions of the module get it from PyModule_GetState, objects keep a
   pointer to it: an object keeps its type alive, and the type the module. */
#ifndef SHM_STATE_H
#define SHM_STATE_H

#include "compat.h"

/* The permissions of an object that is created. */
#define SHM_DEFAULT_MODE 0600

/* The names of parameters and the words that arguments may be. */
#define SHM_STRINGS(STRING)                                                                   \
    STRING(addr)                                                                              \
    STRING(advice)                                                                            \
    STRING(create)                                                                            \
    STRING(direction)                                                                         \
    STRING(error)                                                                             \
    STRING(flags)                                                                             \
    STRING(gid)                                                                               \
    STRING(guard)                                                                             \
    STRING(if_does_not_exist)                                                                 \
    STRING(if_exists)                                                                         \
    STRING(input)                                                                             \
    STRING(io)                                                                                \
    STRING(length)                                                                            \
    STRING(map)                                                                               \
    STRING(name)                                                                              \
    STRING(offset)                                                                            \
    STRING(overwrite)                                                                         \
    STRING(permission)                                                                        \
    STRING(permissions)                                                                       \
    STRING(protection)                                                                        \
    STRING(protections)                                                                       \
    STRING(seal)                                                                              \
    STRING(shared)                                                                            \
    STRING(size)                                                                              \
    STRING(supersede)                                                                         \
    STRING(truncate)                                                                          \
    STRING(uid)                                                                               \
    STRING(workers)                                                                           \
    STRING(write)

#define SHM_STRING_ID(string) SHM_STR_##string,
typedef enum { SHM_STRINGS(SHM_STRING_ID) SHM_STRING_COUNT } shm_string;
#undef SHM_STRING_ID

typedef struct {
    PyObject *strings[SHM_STRING_COUNT]; /* interned: a program's own are the same objects */
    PyObject *ShmError;
    PyObject *ShmExistsError;
    PyObject *ShmDoesNotExistError;
    PyObject *ShmPermissionError;
    PyObject *MmapError;
    PyObject *Mapping;
    PyObject *SharedMemoryObject;
    int (*audit)(const char *event, const char *format, ...);
    PyObject *os_fstat;
    PyObject *zero;
} shm_state;

/* Every reference in the state, for the three functions that walk them. */
#define SHM_STATE_FOR_EACH(VISIT)                                                             \
    VISIT(ShmError)                                                                           \
    VISIT(ShmExistsError)                                                                     \
    VISIT(ShmDoesNotExistError)                                                               \
    VISIT(ShmPermissionError)                                                                 \
    VISIT(MmapError)                                                                          \
    VISIT(Mapping)                                                                            \
    VISIT(SharedMemoryObject)                                                                 \
    VISIT(os_fstat)                                                                           \
    VISIT(zero)

static inline shm_state *
shm_state_of_module(PyObject *module)
{
    return (shm_state *)PyModule_GetState(module);
}

#endif
