/* Floor 3: argument converters.

   All return -1 with an exception set, and all may run Python code
   (`__index__`, `__fspath__`): convert every argument first, and look at the
   state of an object only then. */
#ifndef SHM_ARGS_H
#define SHM_ARGS_H

#include "compat.h"
#include "state.h"

#include <stdbool.h>
#include <sys/types.h>

/* Makes the strings of the state. */
int shm_args_init(shm_state *);

/* A name as the system wants it, and as the user sees it. */
typedef struct {
    PyObject *text;              /* "/foo"; a strong reference */
    char path[SHM_NAME_MAX + 2]; /* the same, encoded */
} shm_name;

/* A str, bytes or path; ShmError with EINVAL or ENAMETOOLONG if no object can
   have it. */
int shm_name_from(shm_state *, PyObject *arg, shm_name *name);
void shm_name_clear(shm_name *name);

/* "takes 2 arguments (3 given)" where it is so. */
int shm_check_arg_count(const char *function, Py_ssize_t given, Py_ssize_t wanted);

/* What a METH_FASTCALL | METH_KEYWORDS function may be called with. */
typedef struct {
    const char *function;
    int required;   /* how many must be given */
    int positional; /* how many may be given without their names */
    int count;
    shm_string parameters[6];
} shm_signature;

/* Puts each argument in its parameter's place in `values`, which holds the
   defaults, and NULL where there is none. */
int shm_bind(const shm_state *, const shm_signature *, PyObject *const *args, Py_ssize_t nargs,
             PyObject *kwnames, PyObject **values);

/* PyNumber_AsSsize_t, which costs more for what most arguments are: ints that
   fit. */
int shm_index_from(PyObject *arg, PyObject *overflow, Py_ssize_t *value);

/* An int; OverflowError if the C type can't hold it. */
int shm_int_from(PyObject *arg, int *value);
int shm_mode_from(PyObject *arg, mode_t *mode);
int shm_offset_from(PyObject *arg, off_t *value);
int shm_size_from(PyObject *arg, size_t *value);
int shm_address_from(PyObject *arg, void **address);
/* What can't be a descriptor is -1. */
int shm_descriptor_from(PyObject *arg, int *fd);
/* None is -1, which chown leaves alone. */
int shm_id_from(PyObject *arg, unsigned int *id);
/* A range of bytes of something that has a size. */
typedef struct {
    Py_ssize_t offset;
    Py_ssize_t length;
    bool to_the_end; /* instead of `length` */
} shm_extent;

/* Numbers that nothing can be as large as are clipped, so that the range is
   found to be outside.  A length of None is "to the end". */
int shm_extent_from(PyObject *offset, PyObject *length, shm_extent *extent);
/* Whether the range lies inside `size` bytes; fills in `length`. */
bool shm_extent_fit(shm_extent *extent, Py_ssize_t size);

#endif
