/* Mapping: what `mmap.mmap` is to a file, for the pages of a shared memory
   object.  It exports its pages as a buffer and stands for a range of
   addresses for as long as it lives:

   - Views and calls in progress are leases.  `close` lets the last of them
     give the pages up; `unmap` insists on being the last.
   - A consumer may keep a pointer without a view (NumPy's
     `ndarray(buffer=m)` does), but it keeps a reference to the Mapping.  So
     once a mapping has been exported, its addresses are not given back before
     the Mapping itself is freed: pages of zeros are buried there. */

#include "mapping.h"

#include "args.h"
#include "errors.h"
#include "lease.h"
#include "populate.h"
#include "reserve.h"
#include "sigbus.h"
#include "syscalls.h"
#include "upstairs.h"
#include "words.h"

#include <errno.h>
#include <stdatomic.h>
#include <string.h>
#include <structmember.h>

/* Addresses that pages were moved away from, and that stay taken. */
typedef struct grave {
    void *pages;
    size_t span;
    struct grave *next;
} grave;

typedef struct {
    PyObject_HEAD
    PyObject *weak_references;
    shm_state *state;
    PyObject *name; /* of the object, or NULL */
    shm_lease lease;
    char *pages; /* NULL once the addresses are given back */
    size_t span; /* bytes from `pages` on, whole pages */
    size_t page_size;
    size_t within; /* of the first byte, in the first page */
    Py_ssize_t length;
    Py_ssize_t offset;
    int flags;
    shm_mutex protection_lock; /* for whoever changes `prot` */
    atomic_int prot;
    atomic_bool exported; /* ever */
    atomic_bool faulted;
    shm_guard *guard; /* or NULL */
    grave *graves;
} MappingObject;

/* Copies longer than this let the GIL go.  It costs about as much as copying
   10 KB, but whoever gets the GIL may keep it for 5 ms. */
#define LARGE ((Py_ssize_t)256 << 10)

static char *
first_byte(MappingObject *self)
{
    return self->pages + self->within;
}

/* ---- giving the pages up ---------------------------------------------- */

static void
end_guard(MappingObject *self)
{
    if (self->guard != NULL) {
        shm_guard_remove(self->guard);
        self->guard = NULL;
    }
}

/* Lets go of the shared pages.  Whoever ended the last lease calls this once.
   If the system refuses, they stay until the object is freed. */
static int
give_up_pages(MappingObject *self)
{
    int error;
    if (atomic_load(&self->exported)) {
        error = shm_sys_bury(self->pages, self->span);
        end_guard(self);
        return error;
    }
    end_guard(self);
    error = shm_sys_munmap(self->pages, self->span);
    if (error == 0) {
        self->pages = NULL;
    }
    return error;
}

static void
give_back(MappingObject *self)
{
    if (shm_lease_give_back(&self->lease)) {
        (void)give_up_pages(self);
    }
}

static void
mapping_dealloc(PyObject *op)
{
    MappingObject *self = (MappingObject *)op;
    PyTypeObject *type = Py_TYPE(op);
    if (self->weak_references != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    end_guard(self);
    if (self->pages != NULL) {
        (void)shm_sys_munmap(self->pages, self->span);
    }
    while (self->graves != NULL) {
        grave *g = self->graves;
        self->graves = g->next;
        (void)shm_sys_munmap(g->pages, g->span);
        PyMem_Free(g);
    }
    Py_XDECREF(self->name);
    PyObject_Free(self);
    Py_DECREF(type);
}

/* ---- making one ------------------------------------------------------- */

static size_t
round_up(size_t bytes, size_t page_size)
{
    return (bytes + page_size - 1) / page_size * page_size;
}

/* The kernel takes any bits, and makes of most what nobody would expect. */
static int
check_protections(int prot)
{
    if (prot & ~(PROT_READ | PROT_WRITE | PROT_EXEC)) {
        PyErr_Format(PyExc_ValueError,
                     "protections must be made of PROT_READ, PROT_WRITE and PROT_EXEC, not %d",
                     prot);
        return -1;
    }
    return 0;
}

/* A pipe, a device, a directory; macOS tells no kind for shared memory. */
static bool
is_something_else(const struct stat *st)
{
    return !S_ISREG(st->st_mode) && (st->st_mode & S_IFMT) != 0;
}

/* `extent` is none that can be mapped. */
static PyObject *
set_extent_error(shm_state *state, PyObject *name, const shm_extent *extent,
                 const struct stat *st)
{
    bool inside = extent->offset >= 0 && extent->offset <= st->st_size;
    int error = inside && extent->length <= 0 ? EINVAL : ENXIO;
    PyObject *note =
        is_something_else(st)
            ? PyUnicode_FromString("the descriptor is not of a shared memory object")
        : st->st_size == 0
            ? PyUnicode_FromString("the object is empty; truncate() or reserve() gives "
                                   "it a size, which needs direction=\"io\"")
            : PyUnicode_FromFormat("%zd bytes from offset %zd on are not one or more "
                                   "bytes of the object's %lld",
                                   extent->length, extent->offset, (long long)st->st_size);
    return shm_set_mmap_error(state, error, name, note);
}

/* Maps what `self` describes and puts the pages into it. */
static int
map_pages(MappingObject *self, int fd, const void *addr)
{
    int flags = self->flags;
    uintptr_t first_page = (uintptr_t)addr - self->within;
    bool possible = (uintptr_t)addr >= self->within && first_page != 0;
    if (flags & MAP_FIXED) {
        if (!possible || first_page % self->page_size != 0) {
            return EINVAL; /* even where root could have the page of NULL */
        }
        flags = (flags & ~MAP_FIXED) | SHM_MAP_FIXED_NOREPLACE;
    }
    void *hint = possible ? (void *)first_page : NULL;
    void *pages;
    int error =
        shm_sys_mmap(hint, self->within + (size_t)self->length, atomic_load(&self->prot),
                     flags, fd, (off_t)self->offset - (off_t)self->within, &pages);
    if (error != 0) {
        return error;
    }
    if (self->flags & MAP_FIXED && pages != hint) {
        (void)shm_sys_munmap(pages, self->span);
        return EEXIST;
    }
    self->pages = pages;
    return 0;
}

static PyObject *
input_note(void)
{
    return PyUnicode_FromString("the object is opened for input; direction=\"io\" allows "
                                "writing");
}

PyObject *
shm_mmap_note(int error, int fd, int prot, int flags)
{
    int access;
    if (flags & MAP_FIXED && error == EEXIST) {
        return PyUnicode_FromString("there is another mapping at this address");
    }
    if (flags & MAP_FIXED && error == EINVAL) {
        return PyUnicode_FromString("the flag \"fixed\" needs an addr, which for offset 0 is "
                                    "a multiple of the page size");
    }
    if (error == ENODEV) {
        return PyUnicode_FromString("this descriptor is of nothing that can be mapped");
    }
    if ((error == EACCES || error == EPERM) && prot & PROT_WRITE &&
        shm_sys_access_mode(fd, &access) == 0 && access == O_RDONLY) {
        return input_note();
    }
    if (error == EPERM && shm_sys_is_sealed_against_writing(fd)) {
        return PyUnicode_FromString("the object is sealed against writing; "
                                    "mmap(protections=\"read\") maps it");
    }
    return shm_room_note(error, fd);
}

PyObject *
shm_mapping_new(shm_state *state, int fd, const shm_mapping_request *request)
{
    struct stat st;
    if (check_protections(request->prot) < 0) {
        return NULL;
    }
    int error = shm_sys_fstat(fd, &st);
    if (error != 0) {
        return shm_set_mmap_error(state, error, request->name, NULL);
    }
    shm_extent extent = request->extent;
    if (!shm_extent_fit(&extent, (Py_ssize_t)st.st_size) || extent.length == 0) {
        return set_extent_error(state, request->name, &extent, &st);
    }
    MappingObject *self =
        (MappingObject *)PyType_GenericAlloc((PyTypeObject *)state->Mapping, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = state;
    self->name = Py_XNewRef(request->name);
    self->page_size = shm_sys_page_size_of(fd, &st);
    self->within = (size_t)extent.offset % self->page_size;
    self->length = extent.length;
    self->offset = extent.offset;
    self->span = round_up(self->within + (size_t)extent.length, self->page_size);
    self->flags = request->flags;
    atomic_init(&self->prot, request->prot);
    error = map_pages(self, fd, request->addr);
    if (error == 0 && request->guard) {
        error = shm_guard_add(self->pages, self->span, self->page_size, request->prot,
                              &self->faulted, &self->guard);
    }
    if (error != 0) {
        PyObject *note = shm_mmap_note(error, fd, request->prot, request->flags);
        shm_set_mmap_error(state, error, request->name, note);
        Py_DECREF(self);
        return NULL;
    }
    shm_lease_open(&self->lease);
    return (PyObject *)self;
}

/* ---- using one -------------------------------------------------------- */

static void
set_closed_error(void)
{
    PyErr_SetString(PyExc_ValueError, "the mapping is closed");
}

static bool
is_open(MappingObject *self)
{
    if (shm_lease_is_open(&self->lease)) {
        return true;
    }
    set_closed_error();
    return false;
}

/* A lease for a call that lets the GIL go. */
static int
take(MappingObject *self)
{
    if (!shm_lease_take(&self->lease)) {
        set_closed_error();
        return -1;
    }
    return 0;
}

/* For an access that does not let the GIL go: where there is one, nothing can
   close the mapping meanwhile, and looking is enough. */
static int
take_briefly(MappingObject *self)
{
#ifdef Py_GIL_DISABLED
    return take(self);
#else
    if (!shm_lease_is_open(&self->lease)) {
        set_closed_error();
        return -1;
    }
    return 0;
#endif
}

static void
give_back_briefly(MappingObject *self)
{
#ifdef Py_GIL_DISABLED
    give_back(self);
#else
    (void)self;
#endif
}

static bool
can_access(MappingObject *self)
{
    return (atomic_load(&self->prot) & (PROT_READ | PROT_WRITE)) != 0;
}

static bool
is_writable(MappingObject *self)
{
    return (atomic_load(&self->prot) & PROT_WRITE) != 0;
}

static int
check_access(MappingObject *self)
{
    if (!can_access(self)) {
        PyErr_SetString(PyExc_BufferError,
                        "the mapping's protections allow neither reading nor writing");
        return -1;
    }
    return 0;
}

static int
check_writable(MappingObject *self)
{
    if (check_access(self) < 0) {
        return -1;
    }
    if (!is_writable(self)) {
        PyErr_SetString(PyExc_TypeError, "the mapping is read-only");
        return -1;
    }
    return 0;
}

static PyObject *
set_error(MappingObject *self, int error)
{
    return shm_set_mmap_error(self->state, error, self->name, NULL);
}

static PyObject *
set_fault_error(MappingObject *self)
{
    return shm_set_mmap_error(
        self->state, EFAULT, self->name,
        PyUnicode_FromString("the object became shorter than the mapping, or memory ran "
                             "out: pages of zeros stand where there was nothing"));
}

/* What begins every method: a lease, and no fault so far. */
static int
begin_call(MappingObject *self)
{
    if (take(self) < 0) {
        return -1;
    }
    if (atomic_load(&self->faulted)) {
        set_fault_error(self);
        give_back(self);
        return -1;
    }
    return 0;
}

/* What ends it. */
static PyObject *
end_call(MappingObject *self, int error)
{
    if (error == 0 && atomic_load(&self->faulted)) {
        set_fault_error(self);
    }
    else if (error != 0) {
        set_error(self, error);
    }
    give_back(self);
    return PyErr_Occurred() ? NULL : Py_NewRef(Py_None);
}

/* ---- the buffer protocol ---------------------------------------------- */

/* What PyBuffer_FillInfo does, without the call. */
static int
fill_view(MappingObject *self, Py_buffer *view, int flags)
{
    bool readonly = !is_writable(self);
    if (flags & PyBUF_WRITABLE && readonly) {
        PyErr_SetString(PyExc_BufferError, "the mapping is read-only");
        return -1;
    }
    *view = (Py_buffer){
        .buf = first_byte(self),
        .obj = Py_NewRef((PyObject *)self),
        .len = self->length,
        .itemsize = 1,
        .readonly = readonly,
        .ndim = 1,
        .format = flags & PyBUF_FORMAT ? "B" : NULL,
        .shape = flags & PyBUF_ND ? &view->len : NULL,
        .strides = (flags & PyBUF_STRIDES) == PyBUF_STRIDES ? &view->itemsize : NULL,
    };
    if (!atomic_load(&self->exported)) {
        atomic_store(&self->exported, true);
    }
    return 0;
}

static int
mapping_getbuffer(PyObject *op, Py_buffer *view, int flags)
{
    MappingObject *self = (MappingObject *)op;
    view->obj = NULL;
    if (take(self) < 0) {
        return -1;
    }
    if (check_access(self) < 0 || fill_view(self, view, flags) < 0) {
        give_back(self);
        return -1;
    }
    return 0;
}

static void
mapping_releasebuffer(PyObject *op, Py_buffer *Py_UNUSED(view))
{
    give_back((MappingObject *)op);
}

/* ---- items and slices ------------------------------------------------- */

/* A lease for moving `count` bytes. */
static int
take_to_move(MappingObject *self, Py_ssize_t count)
{
    return count < LARGE ? take_briefly(self) : take(self);
}

static void
give_back_moved(MappingObject *self, Py_ssize_t count)
{
    if (count < LARGE) {
        give_back_briefly(self);
    }
    else {
        give_back(self);
    }
}

/* Bytes from every `from_step`th place to every `to_step`th. */
static void
move_now(char *to, Py_ssize_t to_step, const char *from, Py_ssize_t from_step,
         Py_ssize_t count)
{
    if (to_step == 1 && from_step == 1) {
        memmove(to, from, (size_t)count);
        return;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        to[i * to_step] = from[i * from_step];
    }
}

static void
move(char *to, Py_ssize_t to_step, const char *from, Py_ssize_t from_step, Py_ssize_t count)
{
    if (count < LARGE) {
        move_now(to, to_step, from, from_step, count);
        return;
    }
    Py_BEGIN_ALLOW_THREADS;
    move_now(to, to_step, from, from_step, count);
    Py_END_ALLOW_THREADS;
}

static Py_ssize_t
mapping_length(PyObject *op)
{
    MappingObject *self = (MappingObject *)op;
    if (!shm_lease_is_open(&self->lease)) {
        set_closed_error();
        return -1;
    }
    return self->length;
}

/* The position that an index means that may count from the end. */
static Py_ssize_t
position(MappingObject *self, Py_ssize_t index)
{
    return index < 0 ? index + self->length : index;
}

static int
check_position(MappingObject *self, Py_ssize_t index)
{
    if (index < 0 || index >= self->length) {
        PyErr_SetString(PyExc_IndexError, "mapping index out of range");
        return -1;
    }
    return 0;
}

static PyObject *
mapping_item(PyObject *op, Py_ssize_t index)
{
    MappingObject *self = (MappingObject *)op;
    if (take_briefly(self) < 0) {
        return NULL;
    }
    int value = -1;
    if (check_access(self) == 0 && check_position(self, index) == 0) {
        value = (unsigned char)first_byte(self)[index];
    }
    give_back_briefly(self);
    return value < 0 ? NULL : PyLong_FromLong(value);
}

/* Few bytes that follow one another, which is what most slices are. */
static PyObject *
mapping_short_slice(MappingObject *self, Py_ssize_t start, Py_ssize_t count)
{
    if (take_briefly(self) < 0) {
        return NULL;
    }
    PyObject *bytes = check_access(self) < 0
                          ? NULL
                          : PyBytes_FromStringAndSize(first_byte(self) + start, count);
    give_back_briefly(self);
    return bytes;
}

static PyObject *
mapping_slice(MappingObject *self, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t step)
{
    Py_ssize_t count = PySlice_AdjustIndices(self->length, &start, &stop, step);
    if (step == 1 && count < LARGE) {
        return mapping_short_slice(self, start, count);
    }
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, count);
    if (bytes == NULL || take_to_move(self, count) < 0) {
        Py_XDECREF(bytes);
        return NULL;
    }
    int result = check_access(self);
    if (result == 0) {
        move(PyBytes_AsString(bytes), 1, first_byte(self) + start, step, count);
    }
    give_back_moved(self, count);
    if (result < 0) {
        Py_CLEAR(bytes);
    }
    return bytes;
}

static PyObject *
mapping_subscript(PyObject *op, PyObject *key)
{
    MappingObject *self = (MappingObject *)op;
    if (PySlice_Check(key)) {
        Py_ssize_t start, stop, step;
        if (PySlice_Unpack(key, &start, &stop, &step) < 0) {
            return NULL;
        }
        return mapping_slice(self, start, stop, step);
    }
    if (PyLong_CheckExact(key) || PyIndex_Check(key)) {
        Py_ssize_t index;
        if (shm_index_from(key, PyExc_IndexError, &index) < 0) {
            return NULL;
        }
        return mapping_item(op, position(self, index));
    }
    return PyErr_Format(PyExc_TypeError, "mapping indices must be integers or slices, not %R",
                        (PyObject *)Py_TYPE(key));
}

static int
assign_item(MappingObject *self, Py_ssize_t index, PyObject *value)
{
    if (!PyLong_CheckExact(value) && !PyIndex_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "a mapping's item must be an int");
        return -1;
    }
    Py_ssize_t byte = PyNumber_AsSsize_t(value, NULL);
    if (byte == -1 && PyErr_Occurred()) {
        return -1;
    }
    if (take_briefly(self) < 0) {
        return -1;
    }
    int result = -1;
    if (check_writable(self) == 0 && check_position(self, index) == 0) {
        if (byte < 0 || byte > 255) {
            PyErr_SetString(PyExc_ValueError, "a mapping's item must be in range(0, 256)");
        }
        else {
            first_byte(self)[index] = (char)byte;
            result = 0;
        }
    }
    give_back_briefly(self);
    return result;
}

/* Whether two ranges of addresses have any in common. */
static bool
overlap(const char *a, Py_ssize_t a_length, const char *b, Py_ssize_t b_length)
{
    return (uintptr_t)a < (uintptr_t)b + (size_t)b_length &&
           (uintptr_t)b < (uintptr_t)a + (size_t)a_length;
}

/* For the holder of a lease. */
static int
write_slice(MappingObject *self, Py_ssize_t start, Py_ssize_t count, Py_ssize_t step,
            const Py_buffer *source)
{
    if (check_writable(self) < 0) {
        return -1;
    }
    if (source->len != count) {
        PyErr_Format(PyExc_IndexError,
                     "a slice of %zd bytes of a mapping was assigned %zd bytes", count,
                     source->len);
        return -1;
    }
    char *to = first_byte(self) + start;
    if (step == 1 || !overlap(source->buf, count, first_byte(self), self->length)) {
        move(to, step, source->buf, 1, count);
        return 0;
    }
    PyObject *bytes = PyBytes_FromStringAndSize(source->buf, count);
    if (bytes == NULL) {
        return -1;
    }
    move(to, step, PyBytes_AsString(bytes), 1, count);
    Py_DECREF(bytes);
    return 0;
}

static int
assign_slice(MappingObject *self, Py_ssize_t start, Py_ssize_t stop, Py_ssize_t step,
             const Py_buffer *source)
{
    Py_ssize_t count = PySlice_AdjustIndices(self->length, &start, &stop, step);
    if (take_to_move(self, count) < 0) {
        return -1;
    }
    int result = write_slice(self, start, count, step, source);
    give_back_moved(self, count);
    return result;
}

static int
mapping_ass_subscript(PyObject *op, PyObject *key, PyObject *value)
{
    MappingObject *self = (MappingObject *)op;
    if (value == NULL) {
        PyErr_SetString(PyExc_TypeError, "a mapping's items can't be deleted");
        return -1;
    }
    if (PySlice_Check(key)) {
        Py_ssize_t start, stop, step;
        Py_buffer source;
        if (PySlice_Unpack(key, &start, &stop, &step) < 0 ||
            PyObject_GetBuffer(value, &source, PyBUF_SIMPLE) < 0) {
            return -1;
        }
        int result = assign_slice(self, start, stop, step, &source);
        PyBuffer_Release(&source);
        return result;
    }
    if (PyLong_CheckExact(key) || PyIndex_Check(key)) {
        Py_ssize_t index;
        if (shm_index_from(key, PyExc_IndexError, &index) < 0) {
            return -1;
        }
        return assign_item(self, position(self, index), value);
    }
    PyErr_Format(PyExc_TypeError, "mapping indices must be integers or slices, not %R",
                 (PyObject *)Py_TYPE(key));
    return -1;
}

/* ---- attributes ------------------------------------------------------- */

static PyObject *
mapping_get_address(PyObject *op, void *Py_UNUSED(closure))
{
    MappingObject *self = (MappingObject *)op;
    if (take_briefly(self) < 0) {
        return NULL;
    }
    char *address = first_byte(self);
    give_back_briefly(self);
    return PyLong_FromVoidPtr(address);
}

static PyObject *
mapping_get_nbytes(PyObject *op, void *Py_UNUSED(closure))
{
    MappingObject *self = (MappingObject *)op;
    return is_open(self) ? PyLong_FromSsize_t(self->length) : NULL;
}

static PyObject *
mapping_get_offset(PyObject *op, void *Py_UNUSED(closure))
{
    MappingObject *self = (MappingObject *)op;
    return is_open(self) ? PyLong_FromSsize_t(self->offset) : NULL;
}

static PyObject *
mapping_get_prot(PyObject *op, void *Py_UNUSED(closure))
{
    MappingObject *self = (MappingObject *)op;
    return is_open(self)
               ? shm_call_upstairs("posix_shm._flags", "Protection",
                                   Py_BuildValue("(i)", atomic_load(&self->prot)), NULL)
               : NULL;
}

static PyObject *
mapping_get_map_flags(PyObject *op, void *Py_UNUSED(closure))
{
    MappingObject *self = (MappingObject *)op;
    return is_open(self) ? shm_call_upstairs("posix_shm._flags", "MapFlag",
                                             Py_BuildValue("(i)", self->flags), NULL)
                         : NULL;
}

static PyObject *
mapping_get_readonly(PyObject *op, void *Py_UNUSED(closure))
{
    MappingObject *self = (MappingObject *)op;
    return is_open(self) ? PyBool_FromLong(!is_writable(self)) : NULL;
}

static PyObject *
mapping_get_closed(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(!shm_lease_is_open(&((MappingObject *)op)->lease));
}

static PyObject *
mapping_get_faulted(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(atomic_load(&((MappingObject *)op)->faulted));
}

static PyObject *
mapping_repr(PyObject *op)
{
    MappingObject *self = (MappingObject *)op;
    PyObject *type_name = PyType_GetQualName(Py_TYPE(op));
    if (type_name == NULL) {
        return NULL;
    }
    int prot = atomic_load(&self->prot);
    PyObject *name = self->name == NULL ? Py_None : self->name;
    PyObject *repr =
        shm_lease_is_open(&self->lease)
            ? PyUnicode_FromFormat("<posix_shm.%U name=%R length=%zd offset=%zd %c%c%c>",
                                   type_name, name, self->length, self->offset,
                                   prot & PROT_READ ? 'r' : '-', prot & PROT_WRITE ? 'w' : '-',
                                   prot & PROT_EXEC ? 'x' : '-')
            : PyUnicode_FromFormat("<posix_shm.%U name=%R closed>", type_name, name);
    Py_DECREF(type_name);
    return repr;
}

/* ---- methods ---------------------------------------------------------- */

PyDoc_STRVAR(unmap_doc,
             "unmap($self, /)\n--\n\n"
             "Unmap the pages: the shared memory is let go of when this returns.\n\n"
             "Again: no effect.\n\n"
             "Raises BufferError while a view (memoryview, NumPy array) is alive or another\n"
             "thread is in a call, MmapError if the system refuses or the guard met a\n"
             "fault.\n\n"
             "Source: munmap(2); the seed's munmap.");

static PyObject *
mapping_unmap(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MappingObject *self = (MappingObject *)op;
    if (shm_lease_close_if_idle(&self->lease)) {
        int error = give_up_pages(self);
        if (error != 0) {
            return set_error(self, error);
        }
        return atomic_load(&self->faulted) ? set_fault_error(self) : Py_NewRef(Py_None);
    }
    if (shm_lease_is_open(&self->lease) || shm_lease_count(&self->lease) != 0) {
        PyErr_SetString(PyExc_BufferError,
                        "the mapping is in use: release its views first, or close() it, "
                        "which leaves the pages to the last of them");
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(close_doc,
             "close($self, /)\n--\n\n"
             "Forbid new uses, and unmap the pages once no view is alive.\n\n"
             "That is at once if there is none, otherwise with the last view.  Again: no\n"
             "effect.  Raises nothing.");

static PyObject *
mapping_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MappingObject *self = (MappingObject *)op;
    if (shm_lease_close(&self->lease) == SHM_LEASE_DISPOSE) {
        (void)give_up_pages(self);
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(check_doc,
             "check($self, /)\n--\n\n"
             "Raise MmapError with EFAULT if the guard had to put zeros in the place of\n"
             "pages that were not there.  Works on a closed mapping, too.");

static PyObject *
mapping_check(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MappingObject *self = (MappingObject *)op;
    return atomic_load(&self->faulted) ? set_fault_error(self) : Py_NewRef(Py_None);
}

PyDoc_STRVAR(enter_doc, "__enter__($self, /)\n--\n\n");

static PyObject *
mapping_enter(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return is_open((MappingObject *)op) ? Py_NewRef(op) : NULL;
}

PyDoc_STRVAR(exit_doc, "__exit__($self, exc_type, exc_value, traceback, /)\n--\n\n"
                       "close(), and check() unless there is an exception already.");

static PyObject *
mapping_exit(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    if (shm_check_arg_count("__exit__", nargs, 3) < 0) {
        return NULL;
    }
    PyObject *none = mapping_close(op, NULL);
    if (none != NULL && args[0] == Py_None) {
        Py_DECREF(none);
        return mapping_check(op, NULL);
    }
    return none;
}

/* Begins a call about part of the mapping: the pages that hold the range. */
static int
begin_call_on(MappingObject *self, shm_extent *extent, char **start, size_t *length)
{
    if (begin_call(self) < 0) {
        return -1;
    }
    if (!shm_extent_fit(extent, self->length)) {
        PyErr_Format(PyExc_ValueError,
                     "%zd bytes from offset %zd on are not inside the mapping's %zd",
                     extent->length, extent->offset, self->length);
        give_back(self);
        return -1;
    }
    size_t from = self->within + (size_t)extent->offset;
    size_t to = from + (size_t)extent->length;
    from -= from % self->page_size;
    *start = self->pages + from;
    *length = to - from;
    return 0;
}

PyDoc_STRVAR(flush_doc,
             "flush($self, /, offset=0, length=None)\n--\n\n"
             "Write changed pages back, for objects that are on a disk.\n\n"
             "Shared memory has nowhere to be written to; then this has no effect.\n\n"
             "  offset, length: bytes of the mapping; None is up to the end.  All pages\n"
             "    that the range touches are meant.\n\n"
             "Raises MmapError, ValueError for a range outside or a closed mapping.\n\n"
             "Source: msync(2) with MS_SYNC.");

static const shm_signature FLUSH = {
    .function = "flush",
    .positional = 2,
    .count = 2,
    .parameters = {SHM_STR_offset, SHM_STR_length},
};

static PyObject *
mapping_flush(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    MappingObject *self = (MappingObject *)op;
    PyObject *values[] = {self->state->zero, Py_None};
    shm_extent extent;
    char *start;
    size_t length;
    if (shm_bind(self->state, &FLUSH, args, nargs, kwnames, values) < 0 ||
        shm_extent_from(values[0], values[1], &extent) < 0 ||
        begin_call_on(self, &extent, &start, &length) < 0) {
        return NULL;
    }
    return end_call(self, shm_sys_msync(start, length));
}

PyDoc_STRVAR(
    advise_doc,
    "advise($self, /, advice, offset=0, length=None)\n--\n\n"
    "Tell the kernel how the pages will be used.\n\n"
    "  advice: \"normal\", \"random\", \"sequential\", \"willneed\", \"dontneed\", and what\n"
    "    else madvise knows on this platform; or an int.\n"
    "  offset, length: bytes of the mapping; None is up to the end.  All pages\n"
    "    that the range touches are meant.\n\n"
    "Raises ValueError for an unknown word, or a range outside the mapping;\n"
    "MmapError if the kernel refuses.\n\n"
    "Source: madvise(2).");

static const shm_signature ADVISE = {
    .function = "advise",
    .required = 1,
    .positional = 3,
    .count = 3,
    .parameters = {SHM_STR_advice, SHM_STR_offset, SHM_STR_length},
};

static PyObject *
mapping_advise(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    MappingObject *self = (MappingObject *)op;
    PyObject *values[] = {NULL, self->state->zero, Py_None};
    int advice;
    shm_extent extent;
    char *start;
    size_t length;
    if (shm_bind(self->state, &ADVISE, args, nargs, kwnames, values) < 0 ||
        shm_flags_from(self->state, SHM_STR_advice, values[0], &advice) < 0 ||
        shm_extent_from(values[1], values[2], &extent) < 0 ||
        begin_call_on(self, &extent, &start, &length) < 0) {
        return NULL;
    }
    return end_call(self, shm_sys_madvise(start, length, advice));
}

PyDoc_STRVAR(lock_doc, "lock($self, /)\n--\n\n"
                       "Keep the pages in memory; faults them in.\n\n"
                       "Raises MmapError (ENOMEM, EPERM) beyond the limit RLIMIT_MEMLOCK.\n\n"
                       "Source: mlock(2).");

static PyObject *
mapping_lock(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MappingObject *self = (MappingObject *)op;
    return begin_call(self) < 0 ? NULL
                                : end_call(self, shm_sys_mlock(self->pages, self->span));
}

PyDoc_STRVAR(unlock_doc, "unlock($self, /)\n--\n\n"
                         "Undo lock().\n\nSource: munlock(2).");

static PyObject *
mapping_unlock(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    MappingObject *self = (MappingObject *)op;
    return begin_call(self) < 0 ? NULL
                                : end_call(self, shm_sys_munlock(self->pages, self->span));
}

/* The system doesn't say why there is no page; free memory for all of them
   tells. */
static PyObject *
set_missing_page_error(MappingObject *self)
{
    unsigned long long bytes;
    if (shm_sys_free_bytes(-1, &bytes) == 0 && bytes >= self->span) {
        return shm_set_mmap_error(
            self->state, EFAULT, self->name,
            PyUnicode_FromString("the object has become shorter than the mapping"));
    }
    return shm_set_mmap_error(self->state, ENOSPC, self->name, shm_room_note(ENOSPC, -1));
}

PyDoc_STRVAR(populate_doc,
             "populate($self, /, *, write=None, workers=1)\n--\n\n"
             "Fault all pages in ahead of use, without the GIL.\n\n"
             "  write: whether for writing; None is whether the mapping is writable.\n"
             "  workers: how many threads share the pages, the calling one among them.\n\n"
             "Raises MmapError with ENOSPC if there is no memory for a page, with EFAULT if\n"
             "the object has become shorter than the mapping; ValueError for fewer than one\n"
             "worker.\n\n"
             "Source: madvise(2) with MADV_POPULATE_READ and MADV_POPULATE_WRITE.");

static const shm_signature POPULATE = {
    .function = "populate",
    .count = 2,
    .parameters = {SHM_STR_write, SHM_STR_workers},
};

static PyObject *
mapping_populate(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    MappingObject *self = (MappingObject *)op;
    PyObject *values[] = {Py_None, NULL};
    int workers = 1;
    if (shm_bind(self->state, &POPULATE, args, nargs, kwnames, values) < 0 ||
        (values[1] != NULL && shm_int_from(values[1], &workers) < 0)) {
        return NULL;
    }
    if (workers < 1) {
        PyErr_Format(PyExc_ValueError, "workers must be 1 or more, not %d", workers);
        return NULL;
    }
    int write = values[0] == Py_None ? is_writable(self) : PyObject_IsTrue(values[0]);
    if (write < 0 || begin_call(self) < 0) {
        return NULL;
    }
    int error = (write ? check_writable(self) : check_access(self)) < 0 ? SHM_INTERRUPTED : 0;
    if (error == 0) {
        /* The system populates for reading only what may be read. */
        bool for_writing = write || !(atomic_load(&self->prot) & PROT_READ);
        error = shm_populate(self->pages, self->span, for_writing, workers);
    }
    if (error == EFAULT) {
        set_missing_page_error(self);
        error = SHM_INTERRUPTED;
    }
    return end_call(self, error);
}

/* ---- protection ------------------------------------------------------- */

/* A pointer that somebody kept would crash on pages that lose a right.  So
   the pages go elsewhere, and zeros are buried in the old place, which is
   guarded until then.  Nobody else is in here, and the GIL is not let go.
   Where zeros can't be buried there is `unwanted` to be unmapped. */
static int
move_pages(MappingObject *self, grave *old, void **unwanted)
{
    void *pages;
    int error = shm_sys_duplicate_mapping(self->pages, self->span, &pages);
    if (error != 0) {
        return error;
    }
    error = shm_sys_bury_at_once(self->pages, self->span);
    if (error != 0) {
        *unwanted = pages;
        return error;
    }
    if (self->guard != NULL) {
        shm_guard_move(self->guard, pages);
    }
    *old = (grave){.pages = self->pages, .span = self->span, .next = self->graves};
    self->graves = old;
    self->pages = pages;
    atomic_store(&self->exported, false);
    return 0;
}

/* Nobody uses a right that is taken away. */
static int
change_protection(MappingObject *self, int prot)
{
    int error = shm_sys_mprotect(self->pages, self->span, prot);
    if (error == 0) {
        atomic_store(&self->prot, prot);
        if (self->guard != NULL) {
            shm_guard_protect(self->guard, prot);
        }
    }
    return error;
}

static PyObject *
set_protection_error(MappingObject *self, int error)
{
    return shm_set_mmap_error(self->state, error, self->name,
                              error == EACCES ? input_note() : NULL);
}

static PyObject *
reduce_protection(MappingObject *self, int prot)
{
    grave *old = PyMem_Malloc(sizeof *old);
    if (old == NULL) {
        return PyErr_NoMemory();
    }
    if (!shm_lease_take_alone(&self->lease)) {
        PyMem_Free(old);
        if (is_open(self)) {
            PyErr_SetString(PyExc_BufferError,
                            "the mapping is in use: a live view would lose a right");
        }
        return NULL;
    }
    void *unwanted = NULL;
    bool move = atomic_load(&self->exported);
    int error = move ? move_pages(self, old, &unwanted) : 0;
    bool moved = move && error == 0;
    if (error == 0) {
        error = change_protection(self, prot);
    }
    shm_lease_give_back_alone(&self->lease);
    if (unwanted != NULL) {
        (void)shm_sys_munmap(unwanted, self->span);
    }
    if (!moved) {
        PyMem_Free(old);
    }
    return error == 0 ? Py_NewRef(Py_None) : set_protection_error(self, error);
}

PyDoc_STRVAR(protect_doc,
             "protect($self, /, protections)\n--\n\n"
             "Change what may be done with the pages.\n\n"
             "If a right is taken away and something may still point at the pages, they move\n"
             "to another address and zeros take their place.\n\n"
             "  protections: as for SharedMemoryObject.mmap.\n\n"
             "Raises BufferError if a live view would lose a right; MmapError: EACCES for\n"
             "writing to an object that is opened for input.\n\n"
             "Source: mprotect(2).");

static PyObject *
mapping_protect_lock_held(MappingObject *self, int prot)
{
    if (begin_call(self) < 0) {
        return NULL;
    }
    if (atomic_load(&self->prot) & ~prot & (PROT_READ | PROT_WRITE)) {
        give_back(self);
        return reduce_protection(self, prot);
    }
    int error = change_protection(self, prot);
    if (error != 0) {
        set_protection_error(self, error);
        error = SHM_INTERRUPTED;
    }
    return end_call(self, error);
}

static const shm_signature PROTECT = {
    .function = "protect",
    .required = 1,
    .positional = 1,
    .count = 1,
    .parameters = {SHM_STR_protections},
};

static PyObject *
mapping_protect(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    MappingObject *self = (MappingObject *)op;
    PyObject *protections = NULL;
    int prot;
    if (shm_bind(self->state, &PROTECT, args, nargs, kwnames, &protections) < 0 ||
        shm_flags_from(self->state, SHM_STR_protection, protections, &prot) < 0 ||
        check_protections(prot) < 0) {
        return NULL;
    }
    shm_mutex_lock(&self->protection_lock);
    PyObject *none = mapping_protect_lock_held(self, prot);
    shm_mutex_unlock(&self->protection_lock);
    return none;
}

/* ---- arrays ------------------------------------------------------------ */

PyDoc_STRVAR(ndarray_doc,
             "ndarray($self, /, shape, dtype='u1', offset=0, order='C')\n--\n\n"
             "A NumPy array over the pages, without a copy.\n\n"
             "It holds an export: the pages live as long as the array and its views.  It is\n"
             "read-only if the mapping is.\n\n"
             "  shape: of the array.\n"
             "  dtype: of its items; no objects.\n"
             "  offset: bytes into the mapping.\n"
             "  order: \"C\" or \"F\".\n\n"
             "Raises ValueError for a dtype with objects, a negative dimension, or an offset\n"
             "outside; TypeError if the mapping is too small.");

static PyObject *
mapping_ndarray(PyObject *op, PyObject *args, PyObject *kwargs)
{
    PyObject *self = PyTuple_Pack(1, op);
    PyObject *self_and_args = self == NULL ? NULL : PySequence_Concat(self, args);
    Py_XDECREF(self);
    return shm_call_upstairs("posix_shm._ndarray", "ndarray", self_and_args, kwargs);
}

PyDoc_STRVAR(reduce_doc, "__reduce__($self, /)\n--\n\n"
                         "Raise TypeError: a mapping is of one process.");

static PyObject *
mapping_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyErr_Format(PyExc_TypeError,
                        "cannot pickle or copy %R: pass the SharedMemoryObject, and map it "
                        "on the other side",
                        op);
}

/* ---- the type --------------------------------------------------------- */

static PyMethodDef mapping_methods[] = {
    {"unmap", mapping_unmap, METH_NOARGS, unmap_doc},
    {"close", mapping_close, METH_NOARGS, close_doc},
    {"check", mapping_check, METH_NOARGS, check_doc},
    {"flush", (PyCFunction)(void (*)(void))mapping_flush, METH_FASTCALL | METH_KEYWORDS,
     flush_doc},
    {"lock", mapping_lock, METH_NOARGS, lock_doc},
    {"unlock", mapping_unlock, METH_NOARGS, unlock_doc},
    {"populate", (PyCFunction)(void (*)(void))mapping_populate, METH_FASTCALL | METH_KEYWORDS,
     populate_doc},
    {"advise", (PyCFunction)(void (*)(void))mapping_advise, METH_FASTCALL | METH_KEYWORDS,
     advise_doc},
    {"protect", (PyCFunction)(void (*)(void))mapping_protect, METH_FASTCALL | METH_KEYWORDS,
     protect_doc},
    {"ndarray", (PyCFunction)(void (*)(void))mapping_ndarray, METH_VARARGS | METH_KEYWORDS,
     ndarray_doc},
    {"__enter__", mapping_enter, METH_NOARGS, enter_doc},
    {"__exit__", (PyCFunction)(void (*)(void))mapping_exit, METH_FASTCALL, exit_doc},
    {"__reduce__", mapping_reduce, METH_NOARGS, reduce_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef mapping_getset[] = {
    {"address", mapping_get_address, NULL, "Where the first byte is: an int.", NULL},
    {"nbytes", mapping_get_nbytes, NULL, "How many bytes are mapped.", NULL},
    {"offset", mapping_get_offset, NULL, "The first byte's position in the object.", NULL},
    {"protections", mapping_get_prot, NULL, "What may be done with the pages: Protection.",
     NULL},
    {"flags", mapping_get_map_flags, NULL, "How they are mapped: MapFlag.", NULL},
    {"readonly", mapping_get_readonly, NULL, "Whether writing is not allowed.", NULL},
    {"closed", mapping_get_closed, NULL, "Whether close() or unmap() was called.", NULL},
    {"faulted", mapping_get_faulted, NULL,
     "Whether the guard had to put zeros in the place of pages that were not there.", NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef mapping_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(MappingObject, weak_references), READONLY,
     NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(mapping_doc,
             "Pages of a shared memory object in this process; made by\n"
             "SharedMemoryObject.mmap().\n\n"
             "A buffer of unsigned bytes: memoryview(m), np.frombuffer(m, dtype),\n"
             "struct.pack_into, sock.recv_into(m) and the like work without a copy.\n"
             "Indexing and slicing are those of mmap.mmap: ints and bytes.\n\n"
             "What is alive when: docs/lifetimes.md.");

static PyType_Slot mapping_slots[] = {
    {Py_tp_doc, (void *)mapping_doc},
    {Py_tp_dealloc, mapping_dealloc},
    {Py_tp_repr, mapping_repr},
    {Py_tp_methods, mapping_methods},
    {Py_tp_getset, mapping_getset},
    {Py_tp_members, mapping_members},
    {Py_bf_getbuffer, mapping_getbuffer},
    {Py_bf_releasebuffer, mapping_releasebuffer},
    {Py_mp_length, mapping_length},
    {Py_mp_subscript, mapping_subscript},
    {Py_mp_ass_subscript, mapping_ass_subscript},
    {Py_tp_iter, PySeqIter_New},
    {Py_sq_length, mapping_length},
    {Py_sq_item, mapping_item},
    {0, NULL},
};

static PyType_Spec mapping_spec = {
    .name = "posix_shm.Mapping",
    .basicsize = sizeof(MappingObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = mapping_slots,
};

int
shm_mapping_init(PyObject *module, shm_state *state)
{
    state->Mapping = PyType_FromModuleAndSpec(module, &mapping_spec, NULL);
    return state->Mapping == NULL ? -1
                                  : PyModule_AddType(module, (PyTypeObject *)state->Mapping);
}
