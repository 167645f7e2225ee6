/* Floor 7: the bare system calls that Python's os module lacks. */
#ifndef SHM_FFI_H
#define SHM_FFI_H

#include "compat.h"

extern PyMethodDef shm_ffi_functions[];

#endif
