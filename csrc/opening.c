/* What `open` and `os.unlink` are to files.  The words are Python's business
   (posix_shm._open); these take flags as ints, and the type of the result,
   which may be a subclass. */

#include "opening.h"

#include "args.h"
#include "audit.h"
#include "errors.h"
#include "publish.h"
#include "reserve.h"
#include "shm_object.h"
#include "syscalls.h"

#include <errno.h>

/* ---- what they share -------------------------------------------------- */

/* What becomes of the arguments on the way. */
typedef struct {
    shm_state *state;
    shm_name name;
    PyObject *object; /* the result, closed until all has gone well */
    int oflag;
    shm_blueprint plan;
    bool created;
} opening;

static void
abandon(opening *o)
{
    Py_CLEAR(o->object);
    shm_name_clear(&o->name);
}

/* Takes type, name, oflag and mode.  An object that keeps no name may have
   None for one. */
static int
begin(opening *o, PyObject *module, PyObject *const *args, bool keeps_name)
{
    *o = (opening){.state = shm_state_of_module(module)};
    if (!PyType_Check(args[0]) ||
        !PyType_IsSubtype((PyTypeObject *)args[0],
                          (PyTypeObject *)o->state->SharedMemoryObject)) {
        PyErr_SetString(PyExc_TypeError, "the type must be derived from SharedMemoryObject");
        return -1;
    }
    if (shm_int_from(args[2], &o->oflag) < 0 || shm_mode_from(args[3], &o->plan.mode) < 0 ||
        ((keeps_name || args[1] != Py_None) &&
         shm_name_from(o->state, args[1], &o->name) < 0)) {
        return -1;
    }
    o->plan.path = o->name.path;
    o->plan.access = o->oflag & O_ACCMODE;
    PyObject *shown = o->name.text == NULL ? Py_None : o->name.text;
    if (shm_audit_open(o->state, shown, o->oflag, o->plan.mode) == 0) {
        o->object = shm_object_new(o->state, (PyTypeObject *)args[0],
                                   keeps_name ? o->name.text : NULL);
    }
    if (o->object == NULL) {
        abandon(o);
        return -1;
    }
    return 0;
}

/* Takes size and reserve, too. */
static int
begin_with_size(opening *o, PyObject *module, PyObject *const *args, bool keeps_name)
{
    off_t size;
    int reserve = PyObject_IsTrue(args[5]);
    if (reserve < 0 || shm_offset_from(args[4], &size) < 0 ||
        begin(o, module, args, keeps_name) < 0) {
        return -1;
    }
    if (size < 0) {
        shm_set_error(o->state, EINVAL, keeps_name ? o->name.text : NULL,
                      PyUnicode_FromString("a size is 0 or more bytes"));
        abandon(o);
        return -1;
    }
    o->plan.size = size;
    o->plan.reserve = reserve != 0;
    return 0;
}

/* The object, which owns `fd` now, if there was no error; else `note`, a new
   reference or NULL, says what to do. */
static PyObject *
finish(opening *o, int error, int fd, PyObject *note)
{
    PyObject *object = NULL;
    if (error != 0) {
        shm_set_error(o->state, error, o->name.text, note);
    }
    else {
        shm_object_open(o->object, fd, o->plan.access, o->created);
        object = Py_NewRef(o->object);
    }
    abandon(o);
    return object;
}

/* ---- by name ---------------------------------------------------------- */

PyDoc_STRVAR(open_shm_doc, "open_shm($module, type, name, oflag, mode, /)\n--\n\n"
                           "Open an object as shm_open does.");

static PyObject *
open_shm(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    opening o;
    int fd = -1;
    if (shm_check_arg_count("open_shm", nargs, 4) < 0 || begin(&o, module, args, true) < 0) {
        return NULL;
    }
    int error = shm_open_named(o.plan.path, o.oflag, o.plan.mode, &fd);
    return finish(&o, error, fd, shm_room_note(error, -1));
}

PyDoc_STRVAR(publish_shm_doc,
             "publish_shm($module, type, name, oflag, mode, size, reserve, /)\n--\n\n"
             "Open an object; a new or truncated one has its size before anybody sees it.");

static PyObject *
publish_shm(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    opening o;
    int fd = -1;
    if (shm_check_arg_count("publish_shm", nargs, 6) < 0 ||
        begin_with_size(&o, module, args, true) < 0) {
        return NULL;
    }
    int error = shm_publish(&o.plan, o.oflag, &fd, &o.created);
    return finish(&o, error, fd, shm_room_note(error, -1));
}

PyDoc_STRVAR(supersede_shm_doc,
             "supersede_shm($module, type, name, oflag, mode, size, reserve, /)\n--\n\n"
             "Make a new object and give it the name, whatever had it before.");

static PyObject *
supersede_shm(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    opening o;
    int fd = -1;
    if (shm_check_arg_count("supersede_shm", nargs, 6) < 0 ||
        begin_with_size(&o, module, args, true) < 0) {
        return NULL;
    }
    int error = shm_supersede(&o.plan, &fd);
    o.created = true;
    return finish(&o, error, fd, shm_room_note(error, -1));
}

PyDoc_STRVAR(draft_shm_doc,
             "draft_shm($module, type, name, oflag, mode, size, reserve, supersede, /)\n--\n\n"
             "Make an object that only has its name after _publish(supersede).\n\n"
             "Raises ShmError with ENOTSUP where the system has no such objects.");

static PyObject *
draft_shm(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    opening o;
    int supersede, fd = -1;
    if (shm_check_arg_count("draft_shm", nargs, 7) < 0 ||
        (supersede = PyObject_IsTrue(args[6])) < 0 ||
        begin_with_size(&o, module, args, true) < 0) {
        return NULL;
    }
    int error = shm_draft(&o.plan, supersede != 0, &fd);
    o.created = true;
    return finish(&o, error, fd, shm_room_note(error, -1));
}

PyDoc_STRVAR(delete_shm_doc,
             "delete_shm($module, /, name)\n--\n\n"
             "Remove the name of an object; it lives until the last process lets go of it.\n\n"
             "  name: str, bytes or path, with or without its slash.\n\n"
             "Raises ShmDoesNotExistError if there is none, ShmPermissionError if it is\n"
             "another user's, ShmError for an impossible name.\n\n"
             "Source: shm_unlink(3); the seed's delete-shm.");

static PyObject *
delete_shm(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    shm_state *state = shm_state_of_module(module);
    PyObject *name_arg = NULL;
    shm_name name;
    if (shm_single_argument("delete_shm", "name", args, nargs, kwnames, &name_arg) < 0) {
        return NULL;
    }
    if (name_arg == NULL) {
        PyErr_SetString(PyExc_TypeError, "delete_shm() needs a name");
        return NULL;
    }
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

/* ---- without a name --------------------------------------------------- */

/* The name was only for the way. */
static PyObject *
finish_nameless(opening *o, int error, int fd, PyObject *note)
{
    shm_name_clear(&o->name);
    return finish(o, error, fd, note);
}

PyDoc_STRVAR(make_nameless_shm_doc,
             "make_nameless_shm($module, type, name, oflag, mode, size, reserve, /)\n--\n\n"
             "Make an object under an unused name and take the name away.");

static PyObject *
make_nameless_shm(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    opening o;
    int fd = -1;
    if (shm_check_arg_count("make_nameless_shm", nargs, 6) < 0 ||
        begin_with_size(&o, module, args, false) < 0) {
        return NULL;
    }
    int error = shm_make_nameless(&o.plan, &fd);
    return finish_nameless(&o, error, fd, shm_room_note(error, -1));
}

#define HUGE_PAGE_NOTE                                                                        \
    "the size must be a multiple of the huge page size, a size that the system has, and "     \
    "/proc/sys/vm/nr_hugepages sets how many pages there are"

PyDoc_STRVAR(make_memfd_doc, "make_memfd($module, type, name, oflag, mode, size, reserve, "
                             "sealable, huge_page_size, /)\n--\n\n"
                             "Make an object that never has a name, which is None here.");

static PyObject *
make_memfd(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    opening o;
    off_t huge_page_size;
    int sealable, fd = -1;
    if (shm_check_arg_count("make_memfd", nargs, 8) < 0 ||
        (sealable = PyObject_IsTrue(args[6])) < 0 ||
        shm_offset_from(args[7], &huge_page_size) < 0 ||
        begin_with_size(&o, module, args, false) < 0) {
        return NULL;
    }
    int error = shm_make_memfd(&o.plan, sealable != 0, (size_t)huge_page_size, &fd);
    PyObject *note = huge_page_size == 0 ? shm_room_note(error, -1)
                     : error == 0        ? NULL
                                         : PyUnicode_FromString(HUGE_PAGE_NOTE);
    return finish_nameless(&o, error, fd, note);
}

PyMethodDef shm_opening_functions[] = {
    {"open_shm", (PyCFunction)(void (*)(void))open_shm, METH_FASTCALL, open_shm_doc},
    {"publish_shm", (PyCFunction)(void (*)(void))publish_shm, METH_FASTCALL, publish_shm_doc},
    {"supersede_shm", (PyCFunction)(void (*)(void))supersede_shm, METH_FASTCALL,
     supersede_shm_doc},
    {"draft_shm", (PyCFunction)(void (*)(void))draft_shm, METH_FASTCALL, draft_shm_doc},
    {"make_nameless_shm", (PyCFunction)(void (*)(void))make_nameless_shm, METH_FASTCALL,
     make_nameless_shm_doc},
    {"make_memfd", (PyCFunction)(void (*)(void))make_memfd, METH_FASTCALL, make_memfd_doc},
    {"delete_shm", (PyCFunction)(void (*)(void))delete_shm, METH_FASTCALL | METH_KEYWORDS,
     delete_shm_doc},
    {NULL, NULL, 0, NULL},
};
