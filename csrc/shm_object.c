/* SharedMemoryObject: what a file object is to a file, for a POSIX shared
   memory object.  Owns a descriptor; a call that uses it holds a lease, so
   that another thread's `close` waits for the call to end (without blocking
   anyone) instead of pulling the descriptor away.

   It exports the whole object as a buffer: each request gets pages of its own,
   for as long as the view lives.  Their addresses stay taken after that until
   the SharedMemoryObject is freed, because a consumer may have kept a pointer
   (see mapping.c); the next request that fits uses them again. */

#include "shm_object.h"

#include "args.h"
#include "audit.h"
#include "errors.h"
#include "lease.h"
#include "mapping.h"
#include "publish.h"
#include "reserve.h"
#include "syscalls.h"
#include "upstairs.h"
#include "words.h"

#include <errno.h>
#include <structmember.h>

/* Addresses for one view at a time. */
typedef struct place {
    void *pages;
    size_t span;
    struct place *next;
} place;

typedef struct {
    PyObject_HEAD
    PyObject *weak_references;
    shm_state *state;
    PyObject *name; /* or NULL */
    shm_lease lease;
    int fd;
    int access;
    bool created;
    atomic_bool handed_over;
    shm_mutex places_lock;
    place *free_places;
} ShmObject;

/* ---- making one ------------------------------------------------------- */

static PyObject *
new_of_type(shm_state *state, PyTypeObject *type, PyObject *name)
{
    ShmObject *self = (ShmObject *)PyType_GenericAlloc(type, 0);
    if (self == NULL) {
        return NULL;
    }
    self->state = state;
    self->name = Py_XNewRef(name);
    return (PyObject *)self;
}

PyObject *
shm_object_new(shm_state *state, PyObject *name)
{
    return new_of_type(state, (PyTypeObject *)state->SharedMemoryObject, name);
}

void
shm_object_open(PyObject *op, int fd, int access, bool created)
{
    ShmObject *self = (ShmObject *)op;
    self->fd = fd;
    self->access = access;
    self->created = created;
    shm_lease_open(&self->lease);
}

/* The state, for a type that Python code may have derived from ours. */
static shm_state *
state_of_type(PyTypeObject *type)
{
    PyObject *module = NULL;
    while (type != NULL && (module = PyType_GetModule(type)) == NULL) {
        PyErr_Clear();
        type = PyType_GetSlot(type, Py_tp_base);
    }
    return shm_state_of_module(module);
}

static PyObject *
object_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    static char *keywords[] = {"fd", "name", NULL};
    PyObject *fd_arg;
    PyObject *name_arg = Py_None;
    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "O|O:SharedMemoryObject", keywords, &fd_arg,
                                     &name_arg)) {
        return NULL;
    }
    shm_state *state = state_of_type(type);
    shm_name name = {.text = NULL};
    int fd, access;
    if (shm_descriptor_from(fd_arg, &fd) < 0 ||
        (name_arg != Py_None && shm_name_from(state, name_arg, &name) < 0)) {
        return NULL;
    }
    PyObject *self = new_of_type(state, type, name.text);
    if (self == NULL) {
        shm_name_clear(&name);
        return NULL;
    }
    int error = shm_sys_access_mode(fd, &access);
    if (error == 0) {
        error = shm_sys_close_on_exec(fd);
    }
    if (error == 0) {
        shm_object_open(self, fd, access, false);
    }
    else {
        shm_set_error(state, error, name.text,
                      PyUnicode_FromFormat("%R is not an open file descriptor", fd_arg));
        Py_CLEAR(self);
    }
    shm_name_clear(&name);
    return self;
}

static PyObject *
name_or_none(ShmObject *self)
{
    return self->name == NULL ? Py_None : self->name;
}

/* ---- using one -------------------------------------------------------- */

static void
set_closed_error(ShmObject *self)
{
    PyErr_Format(PyExc_ValueError, "the shared memory object %V is closed", self->name,
                 "without a name");
}

static int
take(ShmObject *self)
{
    if (!shm_lease_take(&self->lease)) {
        set_closed_error(self);
        return -1;
    }
    return 0;
}

static void
give_back(ShmObject *self)
{
    if (shm_lease_give_back(&self->lease)) {
        (void)shm_sys_close(self->fd);
    }
}

static PyObject *
set_error(ShmObject *self, int error, PyObject *note)
{
    return shm_set_error(self->state, error, self->name, note);
}

/* What to tell a user who tries to change what is opened for reading. */
static PyObject *
input_note(ShmObject *self)
{
    return self->access == O_RDONLY
               ? PyUnicode_FromString("the object is opened for input; direction=\"io\" "
                                      "allows this")
               : NULL;
}

static PyObject *
size_note(ShmObject *self, off_t size)
{
    return size < 0 ? PyUnicode_FromString("a size is 0 or more bytes") : input_note(self);
}

/* Ends a call that returns nothing. */
static PyObject *
end_call(ShmObject *self, int error, PyObject *note)
{
    give_back(self);
    if (error != 0) {
        return set_error(self, error, note);
    }
    Py_XDECREF(note);
    Py_RETURN_NONE;
}

/* ---- ending one ------------------------------------------------------- */

/* Returns what closing the descriptor returned. */
static int
close_descriptor(ShmObject *self)
{
    return shm_lease_close(&self->lease) == SHM_LEASE_DISPOSE ? shm_sys_close(self->fd) : 0;
}

/* `source` is what the warning is about; NULL where a reference to it would be
   one to an object that is being freed. */
static void
warn_if_unclosed(ShmObject *self, PyObject *source)
{
    if (!shm_lease_is_open(&self->lease)) {
        return;
    }
    PyObject *type, *value, *traceback;
    PyErr_Fetch(&type, &value, &traceback);
    if (!atomic_load(&self->handed_over) &&
        PyErr_ResourceWarning(source, 1, "unclosed shared memory object name=%R fd=%d",
                              name_or_none(self), self->fd) < 0 &&
        PyErr_ExceptionMatches(PyExc_Warning)) {
        PyErr_WriteUnraisable(source);
    }
    PyErr_Clear();
    (void)close_descriptor(self);
    PyErr_Restore(type, value, traceback);
}

static void
object_finalize(PyObject *op)
{
    warn_if_unclosed((ShmObject *)op, op);
}

static void
object_dealloc(PyObject *op)
{
    ShmObject *self = (ShmObject *)op;
    PyTypeObject *type = Py_TYPE(op);
    if (shm_lease_is_open(&self->lease) &&
        shm_finalize_from_dealloc(op, object_finalize) < 0) {
        return;
    }
    /* A subclass may have a finaliser of its own that doesn't close it. */
    warn_if_unclosed(self, NULL);
    if (self->weak_references != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    while (self->free_places != NULL) {
        place *p = self->free_places;
        self->free_places = p->next;
        (void)shm_sys_munmap(p->pages, p->span);
        PyMem_Free(p);
    }
    Py_XDECREF(self->name);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

PyDoc_STRVAR(
    close_doc,
    "close($self, /)\n--\n\n"
    "Close the descriptor.  Mappings and views live on.  Again: no effect.\n\n"
    "While another thread is in a call with the descriptor, that call closes it\n"
    "when it ends.\n\n"
    "Raises ShmError if the system reports one; the object is closed all the same.\n\n"
    "Source: close(2); the seed's close-shm.");

static PyObject *
object_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ShmObject *self = (ShmObject *)op;
    int error = close_descriptor(self);
    return error == 0 ? Py_NewRef(Py_None) : set_error(self, error, NULL);
}

/* A new descriptor; for the holder of a lease. */
static PyObject *
duplicate(ShmObject *self)
{
    int fd;
    int error = shm_sys_duplicate(self->fd, &fd);
    if (error != 0) {
        return set_error(self, error, NULL);
    }
    PyObject *number = PyLong_FromLong(fd);
    if (number == NULL) {
        (void)shm_sys_close(fd);
    }
    return number;
}

PyDoc_STRVAR(detach_doc,
             "detach($self, /)\n--\n\n"
             "Give the descriptor away: the caller closes it.  The object is closed.\n\n"
             "Raises ValueError if it is closed already.");

static PyObject *
object_detach(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ShmObject *self = (ShmObject *)op;
    PyObject *number = PyLong_FromLong(self->fd);
    if (number == NULL || shm_lease_close_if_idle(&self->lease)) {
        return number;
    }
    Py_DECREF(number);
    /* Another thread is in a call with it and will close it; the caller gets
       one of its own. */
    if (take(self) < 0) {
        return NULL;
    }
    number = duplicate(self);
    if (number != NULL) {
        (void)close_descriptor(self);
    }
    give_back(self);
    return number;
}

PyDoc_STRVAR(duplicate_doc, "_duplicate($self, /)\n--\n\n"
                            "Return a new descriptor of the object, which the caller closes.");

static PyObject *
object_duplicate(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ShmObject *self = (ShmObject *)op;
    if (take(self) < 0) {
        return NULL;
    }
    PyObject *number = duplicate(self);
    give_back(self);
    return number;
}

PyDoc_STRVAR(
    hand_over_doc,
    "_hand_over($self, /)\n--\n\n"
    "Have it closed without a warning when the last reference goes: it is under way to\n"
    "another process, and whoever sent it may forget it.");

static PyObject *
object_hand_over(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    atomic_store(&((ShmObject *)op)->handed_over, true);
    Py_RETURN_NONE;
}

PyDoc_STRVAR(enter_doc, "__enter__($self, /)\n--\n\n");

static PyObject *
object_enter(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ShmObject *self = (ShmObject *)op;
    if (!shm_lease_is_open(&self->lease)) {
        set_closed_error(self);
        return NULL;
    }
    return Py_NewRef(op);
}

PyDoc_STRVAR(exit_doc, "__exit__($self, exc_type, exc_value, traceback, /)\n--\n\n"
                       "close(), whose error never replaces an exception of the body.");

static PyObject *
object_exit(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    if (shm_check_arg_count("__exit__", nargs, 3) < 0) {
        return NULL;
    }
    PyObject *none = object_close(op, NULL);
    if (none == NULL && args[0] != Py_None) {
        PyErr_Clear();
        Py_RETURN_NONE;
    }
    return none;
}

/* ---- attributes ------------------------------------------------------- */

static PyObject *
object_get_name(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(name_or_none((ShmObject *)op));
}

PyDoc_STRVAR(fileno_doc, "fileno($self, /)\n--\n\n"
                         "Return the descriptor, which is not inheritable.\n\n"
                         "Raises ValueError once closed.  Source: the seed's shm-fd.");

static PyObject *
object_fileno(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ShmObject *self = (ShmObject *)op;
    if (!shm_lease_is_open(&self->lease)) {
        set_closed_error(self);
        return NULL;
    }
    return PyLong_FromLong(self->fd);
}

static PyObject *
object_get_fd(PyObject *op, void *Py_UNUSED(closure))
{
    return object_fileno(op, NULL);
}

static PyObject *
object_get_closed(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(!shm_lease_is_open(&((ShmObject *)op)->lease));
}

static const char *
direction_word(int access)
{
    return access == O_RDONLY ? "input" : "io";
}

static PyObject *
object_get_direction(PyObject *op, void *Py_UNUSED(closure))
{
    ShmObject *self = (ShmObject *)op;
    int access;
    if (take(self) < 0) {
        return NULL;
    }
    int error = shm_sys_access_mode(self->fd, &access);
    give_back(self);
    return error == 0 ? PyUnicode_FromString(direction_word(access))
                      : set_error(self, error, NULL);
}

static PyObject *
object_get_size(PyObject *op, void *Py_UNUSED(closure))
{
    ShmObject *self = (ShmObject *)op;
    struct stat st;
    if (take(self) < 0) {
        return NULL;
    }
    int error = shm_sys_fstat(self->fd, &st);
    give_back(self);
    return error == 0 ? PyLong_FromLongLong(st.st_size) : set_error(self, error, NULL);
}

static PyObject *
object_repr(PyObject *op)
{
    ShmObject *self = (ShmObject *)op;
    PyObject *type_name = PyType_GetQualName(Py_TYPE(op));
    if (type_name == NULL) {
        return NULL;
    }
    PyObject *name = name_or_none(self);
    PyObject *repr =
        shm_lease_is_open(&self->lease)
            ? PyUnicode_FromFormat("<posix_shm.%U name=%R fd=%d direction='%s'>", type_name,
                                   name, self->fd, direction_word(self->access))
            : PyUnicode_FromFormat("<posix_shm.%U name=%R closed>", type_name, name);
    Py_DECREF(type_name);
    return repr;
}

/* ---- methods ---------------------------------------------------------- */

PyDoc_STRVAR(
    truncate_doc,
    "truncate($self, /, size)\n--\n\n"
    "Make the object exactly `size` bytes long, without reserving memory.\n\n"
    "New bytes are zeros.  A mapping that reaches past the end dies of SIGBUS when\n"
    "it is touched there, unless it is guarded.\n\n"
    "Raises ShmError: EINVAL if `size` is negative or the object is opened for\n"
    "input, EFBIG, EPERM if a seal forbids it; OverflowError; ValueError once closed.\n\n"
    "Source: ftruncate(2); the seed's truncate-shm.");

static const shm_signature TRUNCATE = {
    .function = "truncate",
    .required = 1,
    .positional = 1,
    .count = 1,
    .parameters = {SHM_STR_size},
};

static PyObject *
object_truncate(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    ShmObject *self = (ShmObject *)op;
    PyObject *size_arg = NULL;
    off_t size;
    if (shm_bind(self->state, &TRUNCATE, args, nargs, kwnames, &size_arg) < 0 ||
        shm_offset_from(size_arg, &size) < 0 || take(self) < 0) {
        return NULL;
    }
    int error = shm_sys_ftruncate(self->fd, size);
    return end_call(self, error, error == 0 ? NULL : size_note(self, size));
}

PyDoc_STRVAR(reserve_doc,
             "reserve($self, /, size=None)\n--\n\n"
             "Commit memory for the first `size` bytes; None means all.\n\n"
             "The object grows if it is shorter, and never shrinks.  Afterwards no write to\n"
             "these bytes can fail for lack of memory.\n\n"
             "Raises ShmError: ENOSPC if there is no room, and then the object is as it was;\n"
             "EBADF if it is opened for input, EINVAL if `size` is negative; OverflowError;\n"
             "ValueError once closed.\n\n"
             "Source: posix_fallocate(3).");

static const shm_signature RESERVE = {
    .function = "reserve",
    .positional = 1,
    .count = 1,
    .parameters = {SHM_STR_size},
};

static PyObject *
object_reserve(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    ShmObject *self = (ShmObject *)op;
    PyObject *size_arg = Py_None;
    struct stat st = {.st_size = 0};
    off_t size = 0;
    if (shm_bind(self->state, &RESERVE, args, nargs, kwnames, &size_arg) < 0 ||
        (size_arg != Py_None && shm_offset_from(size_arg, &size) < 0) || take(self) < 0) {
        return NULL;
    }
    int error = size_arg == Py_None ? shm_sys_fstat(self->fd, &st) : 0;
    if (error == 0) {
        error = shm_reserve(self->fd, size_arg == Py_None ? st.st_size : size);
    }
    PyObject *note = error == EBADF || error == EINVAL ? size_note(self, size)
                                                       : shm_room_note(error, self->fd);
    return end_call(self, error, note);
}

PyDoc_STRVAR(stat_doc, "stat($self, /)\n--\n\n"
                       "Return what os.fstat() says of the object: an os.stat_result.\n\n"
                       "Source: fstat(2); the seed's shm-stats.");

static PyObject *
object_stat(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ShmObject *self = (ShmObject *)op;
    if (take(self) < 0) {
        return NULL;
    }
    PyObject *result = PyObject_CallFunction(self->state->os_fstat, "i", self->fd);
    give_back(self);
    return result;
}

PyDoc_STRVAR(chmod_doc, "chmod($self, /, permissions)\n--\n\n"
                        "Change who may open the object.\n\n"
                        "  permissions: as for open_shm; the umask does not apply.\n\n"
                        "Raises ShmPermissionError if the object is another user's.\n\n"
                        "Source: fchmod(2); the seed's chmod-shm.");

static const shm_signature CHMOD = {
    .function = "chmod",
    .required = 1,
    .positional = 1,
    .count = 1,
    .parameters = {SHM_STR_permissions},
};

static PyObject *
object_chmod(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    ShmObject *self = (ShmObject *)op;
    PyObject *permissions = NULL;
    mode_t mode;
    if (shm_bind(self->state, &CHMOD, args, nargs, kwnames, &permissions) < 0 ||
        shm_permissions_from(self->state, permissions, &mode) < 0 || take(self) < 0) {
        return NULL;
    }
    return end_call(self, shm_sys_fchmod(self->fd, mode), NULL);
}

PyDoc_STRVAR(chown_doc, "chown($self, /, uid=None, gid=None)\n--\n\n"
                        "Change the owner and the group; None leaves that ID alone.\n\n"
                        "Raises ShmPermissionError without the privilege.\n\n"
                        "Source: fchown(2); the seed's fchown.");

static const shm_signature CHOWN = {
    .function = "chown",
    .positional = 2,
    .count = 2,
    .parameters = {SHM_STR_uid, SHM_STR_gid},
};

static PyObject *
object_chown(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    ShmObject *self = (ShmObject *)op;
    PyObject *values[] = {Py_None, Py_None};
    unsigned int uid, gid;
    if (shm_bind(self->state, &CHOWN, args, nargs, kwnames, values) < 0 ||
        shm_id_from(values[0], &uid) < 0 || shm_id_from(values[1], &gid) < 0 ||
        take(self) < 0) {
        return NULL;
    }
    return end_call(self, shm_sys_fchown(self->fd, (uid_t)uid, (gid_t)gid), NULL);
}

PyDoc_STRVAR(
    mmap_doc,
    "mmap($self, /, length=None, *, addr=0, protections=None, flags='shared', offset=0, "
    "guard=False)\n--\n\n"
    "Map bytes of the object into memory.\n\n"
    "  length: bytes; None is from the offset to the end.\n"
    "  addr: where the first byte should be; 0 is anywhere.  With the flag \"fixed\" there\n"
    "    or nowhere, and never in the place of another mapping.\n"
    "  protections: \"read\", \"write\", \"exec\", or \"none\" alone.  None is \"read\" for "
    "an\n"
    "    object opened for input, and \"read\" and \"write\" for one opened for io.\n"
    "  flags: \"shared\" or \"private\", and \"fixed\", \"noreserve\", \"populate\", "
    "\"locked\".\n"
    "  offset: of the first byte in the object; need not be a multiple of the page size.\n"
    "  guard: read zeros, instead of dying of SIGBUS, if a peer makes the object shorter\n"
    "    or memory runs out; Mapping.faulted tells.\n\n"
    "Returns a Mapping.\n\n"
    "Raises MmapError: ENXIO if the range is not inside the object, EINVAL if it is\n"
    "empty, EACCES for writing to an object that is opened for input, EEXIST if there is a\n"
    "mapping at a fixed address, ENOMEM; ValueError for an unknown word, or once closed.\n\n"
    "Source: mmap(2); the seed's mmap-shm.");

static const shm_signature MMAP = {
    .function = "mmap",
    .positional = 1,
    .count = 6,
    .parameters = {SHM_STR_length, SHM_STR_addr, SHM_STR_protections, SHM_STR_flags,
                   SHM_STR_offset, SHM_STR_guard},
};

static PyObject *
object_mmap(PyObject *op, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    ShmObject *self = (ShmObject *)op;
    shm_state *state = self->state;
    enum { LENGTH, ADDR, PROTECTIONS, FLAGS, OFFSET, GUARD, COUNT };
    PyObject *values[COUNT] = {
        [LENGTH] = Py_None,
        [PROTECTIONS] = Py_None,
        [FLAGS] = state->strings[SHM_STR_shared],
        [OFFSET] = state->zero,
        [GUARD] = Py_False,
    };
    shm_mapping_request request = {
        .name = self->name,
        .prot = self->access == O_RDONLY ? PROT_READ : PROT_READ | PROT_WRITE,
    };
    int guard;
    if (shm_bind(state, &MMAP, args, nargs, kwnames, values) < 0 ||
        shm_extent_from(values[OFFSET], values[LENGTH], &request.extent) < 0 ||
        (values[ADDR] != NULL && shm_address_from(values[ADDR], &request.addr) < 0) ||
        (values[PROTECTIONS] != Py_None &&
         shm_flags_from(state, SHM_STR_protection, values[PROTECTIONS], &request.prot) < 0) ||
        shm_flags_from(state, SHM_STR_map, values[FLAGS], &request.flags) < 0 ||
        (guard = PyObject_IsTrue(values[GUARD])) < 0) {
        return NULL;
    }
    request.guard = guard != 0;
    if (shm_audit_mmap(state, name_or_none(self), values[LENGTH], request.prot, request.flags,
                       values[OFFSET]) < 0 ||
        take(self) < 0) {
        return NULL;
    }
    PyObject *mapping = shm_mapping_new(state, self->fd, &request);
    give_back(self);
    return mapping;
}

/* ---- the name --------------------------------------------------------- */

PyObject *
shm_delete(shm_state *state, PyObject *name_arg)
{
    shm_name name;
    if (shm_name_from(state, name_arg, &name) < 0) {
        return NULL;
    }
    if (shm_audit_unlink(state, name.text) < 0) {
        shm_name_clear(&name);
        return NULL;
    }
    int error = shm_sys_unlink(name.path);
    if (error != 0) {
        shm_set_error(state, error, name.text, NULL);
    }
    shm_name_clear(&name);
    return error == 0 ? Py_NewRef(Py_None) : NULL;
}

PyDoc_STRVAR(delete_doc,
             "delete($self, /)\n--\n\n"
             "Remove the object's name: delete_shm(shm.name).  Works once closed, too.\n\n"
             "Raises ValueError if the object has no name, ShmDoesNotExistError if the name\n"
             "is gone.\n\n"
             "Source: shm_unlink(3); the seed's delete-shm.");

static PyObject *
object_delete(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ShmObject *self = (ShmObject *)op;
    if (self->name == NULL) {
        PyErr_SetString(PyExc_ValueError,
                        "an anonymous shared memory object has no name to delete");
        return NULL;
    }
    return shm_delete(self->state, self->name);
}

/* A call that does something with the object and its name. */
static PyObject *
call_with_path(ShmObject *self, int (*call)(int fd, const char *path))
{
    if (self->name == NULL) {
        PyErr_SetString(PyExc_ValueError, "the shared memory object has no name");
        return NULL;
    }
    PyObject *path = PyUnicode_EncodeFSDefault(self->name);
    if (path == NULL) {
        return NULL;
    }
    int error = SHM_INTERRUPTED;
    if (take(self) == 0) {
        error = call(self->fd, PyBytes_AsString(path));
        give_back(self);
    }
    Py_DECREF(path);
    return error == 0 ? Py_NewRef(Py_None) : set_error(self, error, NULL);
}

PyDoc_STRVAR(
    publish_doc,
    "_publish($self, supersede, /)\n--\n\n"
    "Give an object of draft_shm its name.\n\n"
    "Raises ShmExistsError if the name is taken and is not to be superseded, ShmError\n"
    "with ENOTSUP where the system can't do it.");

static PyObject *
object_publish(PyObject *op, PyObject *arg)
{
    ShmObject *self = (ShmObject *)op;
    int supersede = PyObject_IsTrue(arg);
    if (supersede < 0) {
        return NULL;
    }
    return call_with_path(self, supersede ? shm_link_over : shm_sys_link);
}

PyDoc_STRVAR(unpublish_doc,
             "_unpublish($self, /)\n--\n\n"
             "Delete the name if opening this made the object and the name is still its.");

static PyObject *
object_unpublish(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ShmObject *self = (ShmObject *)op;
    if (!self->created || self->name == NULL) {
        Py_RETURN_NONE;
    }
    return call_with_path(self, shm_unpublish);
}

/* ---- seals ------------------------------------------------------------- */

PyDoc_STRVAR(
    seal_doc,
    "seal($self, /, *seals)\n--\n\n"
    "Forbid changes of the object for good, whoever has it open.\n\n"
    "  seals: \"shrink\", \"grow\", \"write\", \"future-write\" (by mappings made from now\n"
    "    on), and \"seal\" (more seals).\n\n"
    "Raises ShmPermissionError if the object is not of\n"
    "open_anonymous_shm(sealable=True), or has the seal \"seal\"; ShmError: EBUSY\n"
    "for \"write\" while a writable mapping exists; ValueError for an unknown word.\n\n"
    "Source: fcntl(2) with F_ADD_SEALS.");

static PyObject *
object_seal(PyObject *op, PyObject *args)
{
    ShmObject *self = (ShmObject *)op;
    int seals;
    if (shm_flags_from(self->state, SHM_STR_seal, args, &seals) < 0 || take(self) < 0) {
        return NULL;
    }
    int error = shm_sys_add_seals(self->fd, seals);
    PyObject *note = NULL;
    if (error == EPERM || error == EINVAL) {
        note = PyUnicode_FromString("only objects of open_anonymous_shm(sealable=True), "
                                    "opened for writing and without the seal \"seal\", can "
                                    "be sealed");
    }
    else if (error == EBUSY) {
        note = PyUnicode_FromString("a writable mapping exists; unmap it, or use the seal "
                                    "\"future-write\"");
    }
    return end_call(self, error, note);
}

static PyObject *
object_get_seals(PyObject *op, void *Py_UNUSED(closure))
{
    ShmObject *self = (ShmObject *)op;
    int seals;
    if (take(self) < 0) {
        return NULL;
    }
    int error = shm_sys_get_seals(self->fd, &seals);
    give_back(self);
    return error == 0 ? shm_call_upstairs("posix_shm._flags", "seal_words",
                                          Py_BuildValue("(i)", seals), NULL)
                      : set_error(self, error, NULL);
}

/* ---- to other processes ------------------------------------------------ */

PyDoc_STRVAR(reduce_ex_doc,
             "__reduce_ex__($self, protocol, /)\n--\n\n"
             "Go with a message of multiprocessing; for any other pickler a TypeError.");

static PyObject *
object_reduce_ex(PyObject *op, PyObject *Py_UNUSED(protocol))
{
    return shm_call_upstairs("posix_shm._travel", "reduce", PyTuple_Pack(1, op), NULL);
}

PyDoc_STRVAR(reduce_doc, "__reduce__($self, /)\n--\n\n"
                         "Raise TypeError: a descriptor is of one process.");

static PyObject *
object_reduce(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyErr_Format(PyExc_TypeError,
                        "cannot pickle or copy %R: it travels with multiprocessing or by "
                        "send_shm(); or pass its name and open_shm() it on the other side",
                        op);
}

/* ---- the buffer protocol ---------------------------------------------- */

/* One that is large enough. */
static place *
take_place(ShmObject *self, size_t span)
{
    shm_mutex_lock(&self->places_lock);
    place **link = &self->free_places;
    while (*link != NULL && (*link)->span < span) {
        link = &(*link)->next;
    }
    place *found = *link;
    if (found != NULL) {
        *link = found->next;
    }
    shm_mutex_unlock(&self->places_lock);
    return found;
}

static void
give_place_back(ShmObject *self, place *p)
{
    shm_mutex_lock(&self->places_lock);
    p->next = self->free_places;
    self->free_places = p;
    shm_mutex_unlock(&self->places_lock);
}

/* The size of a new place: the next power of two, so that an object that grows
   and grows does not need a place for each of its sizes.  Huge pages are too
   dear for that. */
static size_t
roomy(size_t span, size_t page_size)
{
    if (page_size != shm_sys_page_size()) {
        return span;
    }
    size_t room = page_size;
    while (room < span) {
        room *= 2;
    }
    return room;
}

/* Maps the whole object at new addresses, which have `p->span` bytes. */
static int
map_new_place(ShmObject *self, place *p, size_t span, int prot)
{
    int error = shm_sys_mmap(NULL, p->span, prot, MAP_SHARED, self->fd, 0, &p->pages);
    if (error == 0 && p->span > span) {
        error = shm_sys_bury((char *)p->pages + span, p->span - span);
        if (error != 0) {
            (void)shm_sys_munmap(p->pages, p->span);
        }
    }
    return error;
}

static int
make_place(ShmObject *self, size_t span, size_t page_size, int prot, place **made)
{
    place *p = PyMem_Malloc(sizeof *p);
    if (p == NULL) {
        return ENOMEM;
    }
    p->span = roomy(span, page_size);
    int error = map_new_place(self, p, span, prot);
    if (error == ENOMEM && p->span > span) {
        p->span = span;
        error = map_new_place(self, p, span, prot);
    }
    if (error != 0) {
        PyMem_Free(p);
        return error;
    }
    *made = p;
    return 0;
}

/* Mapping the object there has failed.  The kernel may have taken the zeros
   away by then, and others may have come; such a place is ours no more. */
static void
recover_place(ShmObject *self, place *p, size_t span, bool untouched)
{
    if (untouched || shm_sys_bury_in_gap(p->pages, span) == 0) {
        give_place_back(self, p);
    }
    else {
        PyMem_Free(p);
    }
}

/* Maps the whole object, in a place that was used before or a new one. */
static int
map_view(ShmObject *self, const struct stat *st, int prot, place **mapped)
{
    size_t page_size = shm_sys_page_size_of(self->fd, st);
    size_t span = ((size_t)st->st_size + page_size - 1) / page_size * page_size;
    place *p = take_place(self, span);
    if (p == NULL) {
        return make_place(self, span, page_size, prot, mapped);
    }
    bool untouched;
    int error = shm_sys_mmap_over(p->pages, span, prot, self->fd, &untouched);
    if (error != 0) {
        recover_place(self, p, span, untouched);
        return error;
    }
    *mapped = p;
    return 0;
}

static void
object_releasebuffer(PyObject *op, Py_buffer *view)
{
    place *p = view->internal;
    (void)shm_sys_bury(p->pages, p->span);
    give_place_back((ShmObject *)op, p);
}

static int
object_getbuffer(PyObject *op, Py_buffer *view, int flags)
{
    ShmObject *self = (ShmObject *)op;
    struct stat st;
    place *p = NULL;
    int readonly = self->access == O_RDONLY;
    int prot = readonly ? PROT_READ : PROT_READ | PROT_WRITE;
    view->obj = NULL;
    if (shm_audit_mmap(self->state, name_or_none(self), Py_None, prot, MAP_SHARED,
                       self->state->zero) < 0 ||
        take(self) < 0) {
        return -1;
    }
    int error = shm_sys_fstat(self->fd, &st);
    if (error == 0 && st.st_size == 0) {
        PyErr_SetString(PyExc_BufferError, "the shared memory object is empty: truncate() or "
                                           "reserve() gives it a size");
        error = SHM_INTERRUPTED;
    }
    if (error == 0) {
        error = map_view(self, &st, prot, &p);
    }
    PyObject *note = error == 0 ? NULL : shm_mmap_note(error, self->fd, prot, MAP_SHARED);
    give_back(self);
    if (error != 0) {
        shm_set_mmap_error(self->state, error, self->name, note);
        return -1;
    }
    if (PyBuffer_FillInfo(view, op, p->pages, (Py_ssize_t)st.st_size, readonly, flags) < 0) {
        view->internal = p;
        object_releasebuffer(op, view);
        return -1;
    }
    view->internal = p;
    return 0;
}

/* ---- the type --------------------------------------------------------- */

static PyMethodDef object_methods[] = {
    {"fileno", object_fileno, METH_NOARGS, fileno_doc},
    {"truncate", (PyCFunction)(void (*)(void))object_truncate, METH_FASTCALL | METH_KEYWORDS,
     truncate_doc},
    {"reserve", (PyCFunction)(void (*)(void))object_reserve, METH_FASTCALL | METH_KEYWORDS,
     reserve_doc},
    {"stat", object_stat, METH_NOARGS, stat_doc},
    {"chmod", (PyCFunction)(void (*)(void))object_chmod, METH_FASTCALL | METH_KEYWORDS,
     chmod_doc},
    {"chown", (PyCFunction)(void (*)(void))object_chown, METH_FASTCALL | METH_KEYWORDS,
     chown_doc},
    {"mmap", (PyCFunction)(void (*)(void))object_mmap, METH_FASTCALL | METH_KEYWORDS,
     mmap_doc},
    {"seal", object_seal, METH_VARARGS, seal_doc},
    {"close", object_close, METH_NOARGS, close_doc},
    {"detach", object_detach, METH_NOARGS, detach_doc},
    {"delete", object_delete, METH_NOARGS, delete_doc},
    {"_publish", object_publish, METH_O, publish_doc},
    {"_unpublish", object_unpublish, METH_NOARGS, unpublish_doc},
    {"_duplicate", object_duplicate, METH_NOARGS, duplicate_doc},
    {"_hand_over", object_hand_over, METH_NOARGS, hand_over_doc},
    {"__enter__", object_enter, METH_NOARGS, enter_doc},
    {"__exit__", (PyCFunction)(void (*)(void))object_exit, METH_FASTCALL, exit_doc},
    {"__reduce_ex__", object_reduce_ex, METH_O, reduce_ex_doc},
    {"__reduce__", object_reduce, METH_NOARGS, reduce_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef object_getset[] = {
    {"name", object_get_name, NULL,
     "The canonical name, or None.  Source: the seed's shm-name.", NULL},
    {"fd", object_get_fd, NULL, "fileno().", NULL},
    {"closed", object_get_closed, NULL, "Whether close() or detach() was called.", NULL},
    {"direction", object_get_direction, NULL, "\"input\" or \"io\".", NULL},
    {"size", object_get_size, NULL, "Bytes now.", NULL},
    {"seals", object_get_seals, NULL,
     "The words of the seals that the object has.  One that can't be sealed has \"seal\".",
     NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef object_members[] = {
    {"__weaklistoffset__", T_PYSSIZET, offsetof(ShmObject, weak_references), READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

PyDoc_STRVAR(object_doc,
             "SharedMemoryObject(fd, name=None)\n--\n\n"
             "An open shared memory object; the constructor is make_shm().\n\n"
             "A context manager that closes it.  memoryview(shm) maps the whole\n"
             "object for as long as the view lives.  Dropping it without close() is\n"
             "a ResourceWarning.\n\n"
             "Source: the seed's shm, open-shm, closed-shm.");

static PyType_Slot object_slots[] = {
    {Py_tp_doc, (void *)object_doc},
    {Py_tp_new, object_new},
    {Py_tp_dealloc, object_dealloc},
    {Py_tp_finalize, object_finalize},
    {Py_tp_repr, object_repr},
    {Py_tp_methods, object_methods},
    {Py_tp_getset, object_getset},
    {Py_tp_members, object_members},
    {Py_bf_getbuffer, object_getbuffer},
    {Py_bf_releasebuffer, object_releasebuffer},
    {0, NULL},
};

static PyType_Spec object_spec = {
    .name = "posix_shm.SharedMemoryObject",
    .basicsize = sizeof(ShmObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE,
    .slots = object_slots,
};

int
shm_object_init(PyObject *module, shm_state *state)
{
    state->SharedMemoryObject = PyType_FromModuleAndSpec(module, &object_spec, NULL);
    return state->SharedMemoryObject == NULL
               ? -1
               : PyModule_AddType(module, (PyTypeObject *)state->SharedMemoryObject);
}
