#include "words.h"

#include "args.h"
#include "upstairs.h"

/* ---- ways to open ----------------------------------------------------- */

/* What one of the three parameters may be, beside None. */
typedef struct {
    const char *parameter;
    const char *listed;
    int count;
    shm_string words[4];
} vocabulary;

static const vocabulary DIRECTION = {
    "direction", "'input', 'io'", 2, {SHM_STR_input, SHM_STR_io}};
static const vocabulary IF_EXISTS = {
    "if_exists",
    "'error', 'overwrite', 'truncate', 'supersede', None",
    4,
    {SHM_STR_error, SHM_STR_overwrite, SHM_STR_truncate, SHM_STR_supersede}};
static const vocabulary IF_DOES_NOT_EXIST = {
    "if_does_not_exist", "'error', 'create', None", 2, {SHM_STR_error, SHM_STR_create}};

/* Stands for None among the words. */
#define NONE SHM_STRING_COUNT

static int
set_unknown_word_error(const vocabulary *known, PyObject *arg)
{
    if (PyUnicode_Check(arg) || arg == Py_None) {
        PyErr_Format(PyExc_ValueError, "unknown %s %R; it must be one of %s", known->parameter,
                     arg, known->listed);
    }
    else {
        PyErr_Format(PyExc_TypeError, "%s must be a word, not %R", known->parameter, arg);
    }
    return -1;
}

static int
word_from(const shm_state *state, const vocabulary *known, PyObject *arg, shm_string *word)
{
    for (int i = 0; i < known->count; i++) {
        if (state->strings[known->words[i]] == arg) {
            *word = known->words[i];
            return 0;
        }
    }
    for (int i = 0; i < known->count && PyUnicode_Check(arg); i++) {
        if (PyUnicode_Compare(state->strings[known->words[i]], arg) == 0) {
            *word = known->words[i];
            return 0;
        }
    }
    return set_unknown_word_error(known, arg);
}

static int
word_or_none_from(const shm_state *state, const vocabulary *known, PyObject *arg,
                  shm_string *word)
{
    if (arg == Py_None) {
        *word = NONE;
        return 0;
    }
    return word_from(state, known, arg, word);
}

static shm_string
default_if_does_not_exist(shm_string direction, shm_string if_exists)
{
    return direction == SHM_STR_input || if_exists == SHM_STR_overwrite ||
                   if_exists == SHM_STR_truncate
               ? SHM_STR_error
               : SHM_STR_create;
}

static shm_way
way(shm_string direction, shm_string if_exists, shm_string if_does_not_exist)
{
    bool may_create = if_does_not_exist == SHM_STR_create;
    bool must_create = may_create && (if_exists == SHM_STR_error || if_exists == NONE);
    return (shm_way){
        .oflag = (direction == SHM_STR_input ? O_RDONLY : O_RDWR) |
                 (may_create ? O_CREAT : 0) | (must_create ? O_EXCL : 0) |
                 (if_exists == SHM_STR_truncate ? O_TRUNC : 0),
        .supersede = may_create && if_exists == SHM_STR_supersede,
        .none_if_exists = may_create && if_exists == NONE,
        .none_if_missing = if_does_not_exist == NONE,
    };
}

int
shm_way_from(const shm_state *state, PyObject *direction, PyObject *if_exists,
             PyObject *if_does_not_exist, shm_way *result)
{
    shm_string direction_word, if_exists_word, if_does_not_exist_word;
    if (word_from(state, &DIRECTION, direction, &direction_word) < 0 ||
        word_or_none_from(state, &IF_EXISTS, if_exists, &if_exists_word) < 0) {
        return -1;
    }
    if (if_does_not_exist == Py_Ellipsis) {
        if_does_not_exist_word = default_if_does_not_exist(direction_word, if_exists_word);
    }
    else if (word_or_none_from(state, &IF_DOES_NOT_EXIST, if_does_not_exist,
                               &if_does_not_exist_word) < 0) {
        return -1;
    }
    *result = way(direction_word, if_exists_word, if_does_not_exist_word);
    return 0;
}

/* ---- flags ------------------------------------------------------------ */

/* The int that flags stand for: a new reference. */
static PyObject *
bits(const shm_state *state, shm_string kind, PyObject *flags)
{
    return PyLong_CheckExact(flags)
               ? Py_NewRef(flags)
               : shm_call_upstairs("posix_shm._words", "bits",
                                   PyTuple_Pack(2, state->strings[kind], flags), NULL);
}

int
shm_flags_from(const shm_state *state, shm_string kind, PyObject *arg, int *flags)
{
    if (kind == SHM_STR_map && arg == state->strings[SHM_STR_shared]) {
        *flags = MAP_SHARED;
        return 0;
    }
    PyObject *number = bits(state, kind, arg);
    int result = number == NULL ? -1 : shm_int_from(number, flags);
    Py_XDECREF(number);
    return result;
}

int
shm_permissions_from(const shm_state *state, PyObject *arg, mode_t *mode)
{
    PyObject *number = bits(state, SHM_STR_permission, arg);
    int result = number == NULL ? -1 : shm_mode_from(number, mode);
    Py_XDECREF(number);
    return result;
}
