#include "constants.h"

#include <sys/stat.h>

#define ROW(name) {#name, name}

/* A map flag that is missing on a platform is 0 there and asks for nothing. */
static const struct {
    const char *name;
    long value;
} CONSTANTS[] = {
    ROW(O_RDONLY),
    ROW(O_RDWR),
    ROW(O_CREAT),
    ROW(O_EXCL),
    ROW(O_TRUNC),
    ROW(O_CLOEXEC),
    ROW(O_NOFOLLOW),

    ROW(S_IRUSR),
    ROW(S_IWUSR),
    ROW(S_IXUSR),
    ROW(S_IRWXU),
    ROW(S_IRGRP),
    ROW(S_IWGRP),
    ROW(S_IXGRP),
    ROW(S_IRWXG),
    ROW(S_IROTH),
    ROW(S_IWOTH),
    ROW(S_IXOTH),
    ROW(S_IRWXO),

    ROW(PROT_NONE),
    ROW(PROT_READ),
    ROW(PROT_WRITE),
    ROW(PROT_EXEC),

    ROW(MAP_SHARED),
    ROW(MAP_PRIVATE),
    ROW(MAP_ANONYMOUS),
    ROW(MAP_FIXED),
    {"MAP_FIXED_NOREPLACE", SHM_MAP_FIXED_NOREPLACE},
    ROW(MAP_GROWSDOWN),
    ROW(MAP_NORESERVE),
    ROW(MAP_POPULATE),
    ROW(MAP_LOCKED),

    ROW(MADV_NORMAL),
    ROW(MADV_RANDOM),
    ROW(MADV_SEQUENTIAL),
    ROW(MADV_WILLNEED),
    ROW(MADV_DONTNEED),
#ifdef __linux__
    ROW(MADV_REMOVE),
    ROW(MADV_HUGEPAGE),
    ROW(MADV_NOHUGEPAGE),
    ROW(MADV_DONTDUMP),
    ROW(MADV_DODUMP),
    ROW(MADV_COLD),
    ROW(MADV_PAGEOUT),
    ROW(MADV_COLLAPSE),
    ROW(F_SEAL_SEAL),
    ROW(F_SEAL_SHRINK),
    ROW(F_SEAL_GROW),
    ROW(F_SEAL_WRITE),
    ROW(F_SEAL_FUTURE_WRITE),
#endif

    {"NAME_MAX", SHM_NAME_MAX},
};

int
shm_constants_init(PyObject *module)
{
    for (size_t i = 0; i < Py_ARRAY_LENGTH(CONSTANTS); i++) {
        if (PyModule_AddIntConstant(module, CONSTANTS[i].name, CONSTANTS[i].value) < 0) {
            return -1;
        }
    }
    PyObject *failed = PyLong_FromVoidPtr(MAP_FAILED);
    int result = PyModule_AddObjectRef(module, "MAP_FAILED", failed);
    Py_XDECREF(failed);
    return result;
}
