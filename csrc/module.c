/* Floor 8: posix_shm._shm, the module object.  What it holds is made floor by
   floor. */

#include "args.h"
#include "audit.h"
#include "constants.h"
#include "errors.h"
#include "ffi.h"
#include "mapping.h"
#include "opening.h"
#include "shm_object.h"
#include "state.h"

/* Python's own objects that the state keeps. */
static int
collect(shm_state *state)
{
    PyObject *os = PyImport_ImportModule("os");
    if (os == NULL) {
        return -1;
    }
    state->os_fstat = PyObject_GetAttrString(os, "fstat");
    Py_DECREF(os);
    state->zero = PyLong_FromLong(0);
    return state->os_fstat == NULL || state->zero == NULL ? -1 : 0;
}

static int
module_exec(PyObject *module)
{
    shm_state *state = shm_state_of_module(module);
    shm_audit_init(state);
    if (collect(state) < 0 || shm_args_init(state) < 0 || shm_constants_init(module) < 0 ||
        shm_errors_init(module, state) < 0 || shm_mapping_init(module, state) < 0 ||
        shm_object_init(module, state) < 0 ||
        PyModule_AddFunctions(module, shm_opening_functions) < 0 ||
        PyModule_AddFunctions(module, shm_ffi_functions) < 0) {
        return -1;
    }
    return 0;
}

static int
module_traverse(PyObject *module, visitproc visit, void *arg)
{
    shm_state *state = shm_state_of_module(module);
    if (state != NULL) {
#define VISIT(reference) Py_VISIT(state->reference);
        SHM_STATE_FOR_EACH(VISIT)
        for (int i = 0; i < SHM_STRING_COUNT; i++) {
            VISIT(strings[i])
        }
#undef VISIT
    }
    return 0;
}

static int
module_clear(PyObject *module)
{
    shm_state *state = shm_state_of_module(module);
    if (state != NULL) {
#define CLEAR(reference) Py_CLEAR(state->reference);
        SHM_STATE_FOR_EACH(CLEAR)
        for (int i = 0; i < SHM_STRING_COUNT; i++) {
            CLEAR(strings[i])
        }
#undef CLEAR
    }
    return 0;
}

static void
module_free(void *module)
{
    (void)module_clear((PyObject *)module);
}

/* The last rows are filled in by PyInit__shm: an interpreter refuses slots
   that it does not know. */
static PyModuleDef_Slot module_slots[] = {
    {Py_mod_exec, module_exec},
    {0, NULL},
    {0, NULL},
    {0, NULL},
};

static struct PyModuleDef module_def = {
    PyModuleDef_HEAD_INIT,
    .m_name = "posix_shm._shm",
    .m_doc = "POSIX shared memory: what posix_shm is made of.",
    .m_size = sizeof(shm_state),
    .m_slots = module_slots,
    .m_traverse = module_traverse,
    .m_clear = module_clear,
    .m_free = module_free,
};

PyMODINIT_FUNC
PyInit__shm(void)
{
    if (Py_Version >= 0x030C0000) {
        module_slots[1] = (PyModuleDef_Slot){SHM_MOD_MULTIPLE_INTERPRETERS,
                                             SHM_MOD_PER_INTERPRETER_GIL_SUPPORTED};
    }
    if (Py_Version >= 0x030D0000) {
        module_slots[2] = (PyModuleDef_Slot){SHM_MOD_GIL, SHM_MOD_GIL_NOT_USED};
    }
    return PyModuleDef_Init(&module_def);
}
