/* What `open` and `os.unlink` are to files.  The underscored functions are for
   posix_shm._open, and take flags as ints. */

#include "opening.h"

#include "args.h"
#include "audit.h"
#include "errors.h"
#include "publish.h"
#include "reserve.h"
#include "shm_object.h"
#include "syscalls.h"
#include "words.h"

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

/* Comes when all arguments but the name are converted.  An object that keeps
   no name may have None for one. */
static int
begin(opening *o, PyObject *name, bool keeps_name)
{
    if ((keeps_name || name != Py_None) && shm_name_from(o->state, name, &o->name) < 0) {
        return -1;
    }
    o->plan.path = o->name.path;
    o->plan.access = o->oflag & O_ACCMODE;
    PyObject *shown = o->name.text == NULL ? Py_None : o->name.text;
    if (o->plan.size < 0) {
        shm_set_error(o->state, EINVAL, keeps_name ? o->name.text : NULL,
                      PyUnicode_FromString("a size is 0 or more bytes"));
    }
    else if (shm_audit_open(o->state, shown, o->oflag, o->plan.mode) == 0) {
        o->object = shm_object_new(o->state, keeps_name ? o->name.text : NULL);
    }
    if (o->object == NULL) {
        abandon(o);
        return -1;
    }
    return 0;
}

/* Takes name, oflag, mode, size and reserve. */
static int
begin_with_ints(opening *o, PyObject *module, PyObject *const *args, bool keeps_name)
{
    *o = (opening){.state = shm_state_of_module(module)};
    int reserve = PyObject_IsTrue(args[4]);
    if (reserve < 0 || shm_int_from(args[1], &o->oflag) < 0 ||
        shm_mode_from(args[2], &o->plan.mode) < 0 ||
        shm_offset_from(args[3], &o->plan.size) < 0) {
        return -1;
    }
    o->plan.reserve = reserve != 0;
    return begin(o, args[0], keeps_name);
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

PyDoc_STRVAR(
    open_shm_doc,
    "open_shm($module, /, name, *, direction='input', if_exists='overwrite', "
    "if_does_not_exist=..., permissions=0o600, size=None)\n--\n\n"
    "Open a shared memory object, and make it if need be.\n\n"
    "  name: str, bytes or path; a slash in front is added where it is missing.\n"
    "  direction: \"input\" to read, \"io\" to read and write.\n"
    "  if_exists: what to do with an object that exists: \"overwrite\" opens it as it\n"
    "    is, \"truncate\" empties it.  If the call may create one, also: \"error\" raises,\n"
    "    None returns None, \"supersede\" gives the name to a new object and leaves the\n"
    "    old one to those who have it.\n"
    "  if_does_not_exist: \"error\" raises, \"create\" makes an empty object, None\n"
    "    returns None.  The default is \"error\" if the direction is \"input\" or\n"
    "    `if_exists` is \"overwrite\" or \"truncate\", and \"create\" otherwise.\n"
    "  permissions: of an object that the call creates, less the umask: an int, or words\n"
    "    such as \"user-read\", \"group-all\", \"roth\".\n"
    "  size: bytes of an object that the call creates or truncates.  Nobody can open it\n"
    "    shorter (on Linux), and its memory is reserved.  None leaves it empty.\n\n"
    "Returns a SharedMemoryObject, or None where a parameter says so.\n\n"
    "Raises ShmExistsError if `if_exists` is \"error\" and the object exists,\n"
    "ShmDoesNotExistError if `if_does_not_exist` is \"error\" and it does not,\n"
    "ShmPermissionError if the system does not allow it; ShmError: EINVAL or\n"
    "ENAMETOOLONG for a name that no object can have, ENOSPC if there is no room for\n"
    "`size` bytes, and anything else that the system reports; ValueError for an unknown\n"
    "word, or a NUL in the name.\n\n"
    "Source: shm_open(3); the seed's open-shm.");

static const shm_signature OPEN_SHM = {
    .function = "open_shm",
    .required = 1,
    .positional = 1,
    .count = 6,
    .parameters = {SHM_STR_name, SHM_STR_direction, SHM_STR_if_exists,
                   SHM_STR_if_does_not_exist, SHM_STR_permissions, SHM_STR_size},
};

static PyObject *
open_shm(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    opening o = {.state = shm_state_of_module(module),
                 .plan = {.mode = SHM_DEFAULT_MODE, .reserve = true}};
    PyObject *const *strings = o.state->strings;
    enum { NAME, DIRECTION, IF_EXISTS, IF_DOES_NOT_EXIST, PERMISSIONS, SIZE, COUNT };
    PyObject *values[COUNT] = {
        [DIRECTION] = strings[SHM_STR_input],
        [IF_EXISTS] = strings[SHM_STR_overwrite],
        [IF_DOES_NOT_EXIST] = Py_Ellipsis,
        [SIZE] = Py_None,
    };
    shm_way way;
    if (shm_bind(o.state, &OPEN_SHM, args, nargs, kwnames, values) < 0 ||
        shm_way_from(o.state, values[DIRECTION], values[IF_EXISTS], values[IF_DOES_NOT_EXIST],
                     &way) < 0 ||
        (values[PERMISSIONS] != NULL &&
         shm_permissions_from(o.state, values[PERMISSIONS], &o.plan.mode) < 0) ||
        (values[SIZE] != Py_None && shm_offset_from(values[SIZE], &o.plan.size) < 0)) {
        return NULL;
    }
    o.oflag = way.oflag;
    if (begin(&o, values[NAME], true) < 0) {
        return NULL;
    }
    int error, fd = -1;
    if (way.supersede) {
        error = shm_supersede(&o.plan, &fd);
        o.created = true;
    }
    else if (values[SIZE] != Py_None) {
        error = shm_publish(&o.plan, o.oflag, &fd, &o.created);
    }
    else {
        error = shm_open_named(o.plan.path, o.oflag, o.plan.mode, &fd);
    }
    if ((error == EEXIST && way.none_if_exists) || (error == ENOENT && way.none_if_missing)) {
        abandon(&o);
        Py_RETURN_NONE;
    }
    bool said_nothing = values[IF_DOES_NOT_EXIST] == Py_Ellipsis;
    PyObject *note =
        error == ENOENT && said_nothing
            ? PyUnicode_FromString("if_does_not_exist=\"create\" makes the object")
            : shm_room_note(error, -1);
    return finish(&o, error, fd, note);
}

PyDoc_STRVAR(way_to_open_doc,
             "_way_to_open($module, direction, if_exists, if_does_not_exist, /)\n--\n\n"
             "What these words of open_shm come to: the flags of the system call, and what\n"
             "they can't say: whether to supersede, and whether the result is None if the\n"
             "object exists and if it is missing.");

static PyObject *
way_to_open(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    shm_way way;
    if (shm_check_arg_count("_way_to_open", nargs, 3) < 0 ||
        shm_way_from(shm_state_of_module(module), args[0], args[1], args[2], &way) < 0) {
        return NULL;
    }
    return Py_BuildValue("(iOOO)", way.oflag, way.supersede ? Py_True : Py_False,
                         way.none_if_exists ? Py_True : Py_False,
                         way.none_if_missing ? Py_True : Py_False);
}

PyDoc_STRVAR(publish_shm_doc,
             "_publish_shm($module, name, oflag, mode, size, reserve, /)\n--\n\n"
             "Open an object; a new or truncated one has its size before anybody sees it.");

static PyObject *
publish_shm(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    opening o;
    int fd = -1;
    if (shm_check_arg_count("_publish_shm", nargs, 5) < 0 ||
        begin_with_ints(&o, module, args, true) < 0) {
        return NULL;
    }
    int error = shm_publish(&o.plan, o.oflag, &fd, &o.created);
    return finish(&o, error, fd, shm_room_note(error, -1));
}

PyDoc_STRVAR(supersede_shm_doc,
             "_supersede_shm($module, name, oflag, mode, size, reserve, /)\n--\n\n"
             "Make a new object and give it the name, whatever had it before.");

static PyObject *
supersede_shm(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    opening o;
    int fd = -1;
    if (shm_check_arg_count("_supersede_shm", nargs, 5) < 0 ||
        begin_with_ints(&o, module, args, true) < 0) {
        return NULL;
    }
    int error = shm_supersede(&o.plan, &fd);
    o.created = true;
    return finish(&o, error, fd, shm_room_note(error, -1));
}

PyDoc_STRVAR(draft_shm_doc,
             "_draft_shm($module, name, oflag, mode, size, reserve, supersede, /)\n--\n\n"
             "Make an object that only has its name after _publish(supersede).\n\n"
             "Raises ShmError with ENOTSUP where the system has no such objects.");

static PyObject *
draft_shm(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    opening o;
    int supersede, fd = -1;
    if (shm_check_arg_count("_draft_shm", nargs, 6) < 0 ||
        (supersede = PyObject_IsTrue(args[5])) < 0 ||
        begin_with_ints(&o, module, args, true) < 0) {
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

static const shm_signature DELETE_SHM = {
    .function = "delete_shm",
    .required = 1,
    .positional = 1,
    .count = 1,
    .parameters = {SHM_STR_name},
};

static PyObject *
delete_shm(PyObject *module, PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    shm_state *state = shm_state_of_module(module);
    PyObject *name = NULL;
    if (shm_bind(state, &DELETE_SHM, args, nargs, kwnames, &name) < 0) {
        return NULL;
    }
    return shm_delete(state, name);
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
             "_make_nameless_shm($module, name, oflag, mode, size, reserve, /)\n--\n\n"
             "Make an object under an unused name and take the name away.");

static PyObject *
make_nameless_shm(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    opening o;
    int fd = -1;
    if (shm_check_arg_count("_make_nameless_shm", nargs, 5) < 0 ||
        begin_with_ints(&o, module, args, false) < 0) {
        return NULL;
    }
    int error = shm_make_nameless(&o.plan, &fd);
    return finish_nameless(&o, error, fd, shm_room_note(error, -1));
}

#define HUGE_PAGE_NOTE                                                                        \
    "the size must be a multiple of the huge page size, a size that the system has, and "     \
    "/proc/sys/vm/nr_hugepages sets how many pages there are"

PyDoc_STRVAR(make_memfd_doc, "_make_memfd($module, name, oflag, mode, size, reserve, "
                             "sealable, huge_page_size, /)\n--\n\n"
                             "Make an object that never has a name, which is None here.");

static PyObject *
make_memfd(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    opening o;
    off_t huge_page_size;
    int sealable, fd = -1;
    if (shm_check_arg_count("_make_memfd", nargs, 7) < 0 ||
        (sealable = PyObject_IsTrue(args[5])) < 0 ||
        shm_offset_from(args[6], &huge_page_size) < 0 ||
        begin_with_ints(&o, module, args, false) < 0) {
        return NULL;
    }
    int error = shm_make_memfd(&o.plan, sealable != 0, (size_t)huge_page_size, &fd);
    PyObject *note = huge_page_size == 0 ? shm_room_note(error, -1)
                     : error == 0        ? NULL
                                         : PyUnicode_FromString(HUGE_PAGE_NOTE);
    return finish_nameless(&o, error, fd, note);
}

PyMethodDef shm_opening_functions[] = {
    {"open_shm", (PyCFunction)(void (*)(void))open_shm, METH_FASTCALL | METH_KEYWORDS,
     open_shm_doc},
    {"delete_shm", (PyCFunction)(void (*)(void))delete_shm, METH_FASTCALL | METH_KEYWORDS,
     delete_shm_doc},
    {"_way_to_open", (PyCFunction)(void (*)(void))way_to_open, METH_FASTCALL, way_to_open_doc},
    {"_publish_shm", (PyCFunction)(void (*)(void))publish_shm, METH_FASTCALL, publish_shm_doc},
    {"_supersede_shm", (PyCFunction)(void (*)(void))supersede_shm, METH_FASTCALL,
     supersede_shm_doc},
    {"_draft_shm", (PyCFunction)(void (*)(void))draft_shm, METH_FASTCALL, draft_shm_doc},
    {"_make_nameless_shm", (PyCFunction)(void (*)(void))make_nameless_shm, METH_FASTCALL,
     make_nameless_shm_doc},
    {"_make_memfd", (PyCFunction)(void (*)(void))make_memfd, METH_FASTCALL, make_memfd_doc},
    {NULL, NULL, 0, NULL},
};
