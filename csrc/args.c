#include "args.h"

#include "errors.h"

#include <errno.h>
#include <string.h>

/* ---- strings ---------------------------------------------------------- */

int
shm_args_init(shm_state *state)
{
#define TEXT(string) #string,
    static const char *const TEXTS[] = {SHM_STRINGS(TEXT)};
#undef TEXT
    for (int i = 0; i < SHM_STRING_COUNT; i++) {
        state->strings[i] = PyUnicode_InternFromString(TEXTS[i]);
        if (state->strings[i] == NULL) {
            return -1;
        }
    }
    return 0;
}

/* ---- names ------------------------------------------------------------ */

/* Why the system would not take `name`, which is without its slash. */
static int
name_error(const char *name, size_t length)
{
    if (length == 0 || memchr(name, '/', length) != NULL || strcmp(name, ".") == 0 ||
        strcmp(name, "..") == 0) {
        return EINVAL;
    }
    return length > SHM_NAME_MAX ? ENAMETOOLONG : 0;
}

static PyObject *
note_for(int error)
{
    return error == EINVAL
               ? PyUnicode_FromString("a name is one or more characters after an optional "
                                      "slash, with no other slash, and not \".\" or \"..\"")
               : PyUnicode_FromFormat("a name has at most %d bytes after its slash here",
                                      SHM_NAME_MAX);
}

/* The characters of a name, and what keeps them. */
typedef struct {
    PyObject *owner; /* a strong reference */
    const char *bytes;
    size_t length;
    bool plain; /* the owner is a str of the same characters */
} encoded_name;

/* Most names are plain ASCII in a str, which has them encoded already. */
static bool
encode_plain(PyObject *arg, encoded_name *encoded)
{
    Py_ssize_t length;
    const char *bytes =
        PyUnicode_CheckExact(arg) ? PyUnicode_AsUTF8AndSize(arg, &length) : NULL;
    if (bytes == NULL) {
        PyErr_Clear();
        return false;
    }
    for (Py_ssize_t i = 0; i < length; i++) {
        if (bytes[i] == 0 || bytes[i] & 0x80) {
            return false;
        }
    }
    *encoded = (encoded_name){Py_NewRef(arg), bytes, (size_t)length, true};
    return true;
}

static int
encode(PyObject *arg, encoded_name *encoded)
{
    if (encode_plain(arg, encoded)) {
        return 0;
    }
    char *bytes;
    Py_ssize_t length;
    if (!PyUnicode_FSConverter(arg, &encoded->owner)) {
        return -1;
    }
    if (PyBytes_AsStringAndSize(encoded->owner, &bytes, &length) < 0) {
        Py_DECREF(encoded->owner);
        return -1;
    }
    encoded->bytes = bytes;
    encoded->length = (size_t)length;
    encoded->plain = false;
    return 0;
}

static void
set_name_error(shm_state *state, int error, const encoded_name *encoded)
{
    PyObject *shown =
        PyUnicode_DecodeFSDefaultAndSize(encoded->bytes, (Py_ssize_t)encoded->length);
    if (shown != NULL) {
        shm_set_error(state, error, shown, note_for(error));
        Py_DECREF(shown);
    }
}

int
shm_name_from(shm_state *state, PyObject *arg, shm_name *name)
{
    encoded_name encoded;
    if (encode(arg, &encoded) < 0) {
        return -1;
    }
    bool slash = encoded.bytes[0] == '/';
    size_t length = encoded.length - slash;
    int error = name_error(encoded.bytes + slash, length);
    if (error != 0) {
        set_name_error(state, error, &encoded);
        Py_DECREF(encoded.owner);
        return -1;
    }
    name->path[0] = '/';
    memcpy(name->path + 1, encoded.bytes + slash, length + 1);
    name->text = slash && encoded.plain ? Py_NewRef(encoded.owner)
                                        : PyUnicode_DecodeFSDefault(name->path);
    Py_DECREF(encoded.owner);
    return name->text == NULL ? -1 : 0;
}

void
shm_name_clear(shm_name *name)
{
    Py_CLEAR(name->text);
}

/* ---- how a function is called ------------------------------------------ */

int
shm_check_arg_count(const char *function, Py_ssize_t given, Py_ssize_t wanted)
{
    if (given == wanted) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "%s() takes %zd arguments (%zd given)", function, wanted,
                 given);
    return -1;
}

/* The parameter of this name, or -1. */
static int
parameter_named(const shm_state *state, const shm_signature *signature, PyObject *name)
{
    for (int i = 0; i < signature->count; i++) {
        if (state->strings[signature->parameters[i]] == name) {
            return i;
        }
    }
    for (int i = 0; i < signature->count; i++) {
        if (PyUnicode_Compare(state->strings[signature->parameters[i]], name) == 0) {
            return i;
        }
    }
    return -1;
}

/* `given` has a bit for each parameter that has its argument. */
static int
bind_named(const shm_state *state, const shm_signature *signature, unsigned int *given,
           PyObject *name, PyObject *value, PyObject **values)
{
    int i = parameter_named(state, signature, name);
    if (i >= 0 && !(*given & 1u << i)) {
        *given |= 1u << i;
        values[i] = value;
        return 0;
    }
    PyErr_Format(PyExc_TypeError,
                 i < 0 ? "%s() got an unexpected keyword argument %R"
                       : "%s() got multiple values for argument %R",
                 signature->function, name);
    return -1;
}

int
shm_bind(const shm_state *state, const shm_signature *signature, PyObject *const *args,
         Py_ssize_t nargs, PyObject *kwnames, PyObject **values)
{
    if (nargs > signature->positional) {
        PyErr_Format(PyExc_TypeError, "%s() takes at most %d positional arguments (%zd given)",
                     signature->function, signature->positional, nargs);
        return -1;
    }
    unsigned int given = (1u << nargs) - 1;
    for (Py_ssize_t i = 0; i < nargs; i++) {
        values[i] = args[i];
    }
    Py_ssize_t named = kwnames == NULL ? 0 : PyTuple_Size(kwnames);
    for (Py_ssize_t i = 0; i < named; i++) {
        if (bind_named(state, signature, &given, PyTuple_GetItem(kwnames, i), args[nargs + i],
                       values) < 0) {
            return -1;
        }
    }
    for (int i = 0; i < signature->required; i++) {
        if (values[i] == NULL) {
            PyErr_Format(PyExc_TypeError, "%s() missing required argument %R",
                         signature->function, state->strings[signature->parameters[i]]);
            return -1;
        }
    }
    return 0;
}

/* ---- numbers ---------------------------------------------------------- */

int
shm_index_from(PyObject *arg, PyObject *overflow, Py_ssize_t *value)
{
    if (PyLong_CheckExact(arg)) {
        *value = PyLong_AsSsize_t(arg);
        if (*value != -1 || !PyErr_Occurred()) {
            return 0;
        }
        PyErr_Clear();
    }
    *value = PyNumber_AsSsize_t(arg, overflow);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

static int
clipped_from(PyObject *arg, Py_ssize_t *value)
{
    return shm_index_from(arg, NULL, value);
}

/* Any int, as the widest C type. */
static int
long_long_from(PyObject *arg, long long *value)
{
    PyObject *number = PyNumber_Index(arg);
    if (number == NULL) {
        return -1;
    }
    *value = PyLong_AsLongLong(number);
    Py_DECREF(number);
    return *value == -1 && PyErr_Occurred() ? -1 : 0;
}

static int
long_long_between(PyObject *arg, long long low, long long high, long long *value)
{
    if (long_long_from(arg, value) < 0) {
        return -1;
    }
    if (*value < low || *value > high) {
        PyErr_Format(PyExc_OverflowError, "%lld is not between %lld and %lld", *value, low,
                     high);
        return -1;
    }
    return 0;
}

int
shm_int_from(PyObject *arg, int *value)
{
    long long wide;
    if (long_long_between(arg, INT_MIN, INT_MAX, &wide) < 0) {
        return -1;
    }
    *value = (int)wide;
    return 0;
}

int
shm_descriptor_from(PyObject *arg, int *fd)
{
    Py_ssize_t wide;
    if (clipped_from(arg, &wide) < 0) {
        return -1;
    }
    *fd = wide < 0 || wide > INT_MAX ? -1 : (int)wide;
    return 0;
}

int
shm_mode_from(PyObject *arg, mode_t *mode)
{
    long long wide;
    if (long_long_from(arg, &wide) < 0) {
        return -1;
    }
    if (wide < 0 || wide > 07777) {
        PyErr_Format(PyExc_OverflowError,
                     "permissions must be between 0 and 0o7777, not %lld; of a whole st_mode, "
                     "stat.S_IMODE() tells them",
                     wide);
        return -1;
    }
    *mode = (mode_t)wide;
    return 0;
}

int
shm_offset_from(PyObject *arg, off_t *value)
{
    long long wide;
    if (long_long_from(arg, &wide) < 0) {
        return -1;
    }
    _Static_assert(sizeof(off_t) == sizeof(long long), "files are large everywhere");
    *value = (off_t)wide;
    return 0;
}

int
shm_size_from(PyObject *arg, size_t *value)
{
    long long wide;
    if (long_long_between(arg, 0, PY_SSIZE_T_MAX, &wide) < 0) {
        return -1;
    }
    *value = (size_t)wide;
    return 0;
}

int
shm_address_from(PyObject *arg, void **address)
{
    PyObject *number = PyNumber_Index(arg);
    if (number == NULL) {
        return -1;
    }
    *address = PyLong_AsVoidPtr(number);
    Py_DECREF(number);
    return *address == NULL && PyErr_Occurred() ? -1 : 0;
}

int
shm_id_from(PyObject *arg, unsigned int *id)
{
    if (arg == Py_None) {
        *id = (unsigned int)-1;
        return 0;
    }
    long long wide;
    if (long_long_between(arg, -1, UINT_MAX - 1LL, &wide) < 0) {
        return -1;
    }
    *id = (unsigned int)wide;
    return 0;
}

int
shm_extent_from(PyObject *offset, PyObject *length, shm_extent *extent)
{
    extent->to_the_end = length == Py_None;
    extent->length = 0;
    if (clipped_from(offset, &extent->offset) < 0) {
        return -1;
    }
    return extent->to_the_end ? 0 : clipped_from(length, &extent->length);
}

bool
shm_extent_fit(shm_extent *extent, Py_ssize_t size)
{
    if (extent->offset < 0 || extent->offset > size) {
        return false;
    }
    if (extent->to_the_end) {
        extent->length = size - extent->offset;
    }
    return extent->length >= 0 && extent->length <= size - extent->offset;
}
