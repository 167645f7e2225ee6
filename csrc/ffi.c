/* For posix_shm.ffi: names, numbers and addresses go to the system as they
   are, and -1 comes back as OSError. */

#include "ffi.h"

#include "args.h"
#include "audit.h"
#include "errors.h"
#include "syscalls.h"

static PyObject *
result(int error)
{
    return error == 0 ? Py_NewRef(Py_None) : shm_set_os_error(error, NULL);
}

PyDoc_STRVAR(shm_open_doc, "shm_open($module, name, oflag, mode, /)\n--\n\n"
                           "shm_open(3): return a descriptor.");

static PyObject *
ffi_shm_open(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *path;
    int oflag, fd = -1;
    mode_t mode;
    if (shm_check_arg_count("shm_open", nargs, 3) < 0 || shm_int_from(args[1], &oflag) < 0 ||
        shm_mode_from(args[2], &mode) < 0 || !PyUnicode_FSConverter(args[0], &path)) {
        return NULL;
    }
    PyObject *descriptor = NULL;
    if (shm_audit_open(shm_state_of_module(module), args[0], oflag, mode) == 0) {
        int error = shm_sys_open(PyBytes_AsString(path), oflag, mode, &fd);
        descriptor = error == 0 ? PyLong_FromLong(fd) : shm_set_os_error(error, args[0]);
    }
    Py_DECREF(path);
    return descriptor;
}

PyDoc_STRVAR(shm_unlink_doc, "shm_unlink($module, name, /)\n--\n\n"
                             "shm_unlink(3).");

static PyObject *
ffi_shm_unlink(PyObject *module, PyObject *name)
{
    PyObject *path;
    if (!PyUnicode_FSConverter(name, &path)) {
        return NULL;
    }
    PyObject *none = NULL;
    if (shm_audit_unlink(shm_state_of_module(module), name) == 0) {
        int error = shm_sys_unlink(PyBytes_AsString(path));
        none = error == 0 ? Py_NewRef(Py_None) : shm_set_os_error(error, name);
    }
    Py_DECREF(path);
    return none;
}

PyDoc_STRVAR(mmap_doc, "mmap($module, addr, length, prot, flags, fd, offset, /)\n--\n\n"
                       "mmap(2): return the address.");

static PyObject *
ffi_mmap(PyObject *module, PyObject *const *args, Py_ssize_t nargs)
{
    void *addr, *pages;
    size_t length;
    off_t offset;
    int prot, flags, fd;
    if (shm_check_arg_count("mmap", nargs, 6) < 0 || shm_address_from(args[0], &addr) < 0 ||
        shm_size_from(args[1], &length) < 0 || shm_int_from(args[2], &prot) < 0 ||
        shm_int_from(args[3], &flags) < 0 || shm_descriptor_from(args[4], &fd) < 0 ||
        shm_offset_from(args[5], &offset) < 0 ||
        shm_audit_mmap(shm_state_of_module(module), args[4], args[1], prot, flags, args[5]) <
            0) {
        return NULL;
    }
    int error = shm_sys_mmap(addr, length, prot, flags, fd, offset, &pages);
    return error == 0 ? PyLong_FromVoidPtr(pages) : shm_set_os_error(error, NULL);
}

PyDoc_STRVAR(munmap_doc, "munmap($module, addr, length, /)\n--\n\n"
                         "munmap(2).");

static PyObject *
ffi_munmap(PyObject *Py_UNUSED(module), PyObject *const *args, Py_ssize_t nargs)
{
    void *addr;
    size_t length;
    if (shm_check_arg_count("munmap", nargs, 2) < 0 || shm_address_from(args[0], &addr) < 0 ||
        shm_size_from(args[1], &length) < 0) {
        return NULL;
    }
    return result(shm_sys_munmap(addr, length));
}

PyMethodDef shm_ffi_functions[] = {
    {"shm_open", (PyCFunction)(void (*)(void))ffi_shm_open, METH_FASTCALL, shm_open_doc},
    {"shm_unlink", ffi_shm_unlink, METH_O, shm_unlink_doc},
    {"mmap", (PyCFunction)(void (*)(void))ffi_mmap, METH_FASTCALL, mmap_doc},
    {"munmap", (PyCFunction)(void (*)(void))ffi_munmap, METH_FASTCALL, munmap_doc},
    {NULL, NULL, 0, NULL},
};
