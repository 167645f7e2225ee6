/* Floor 2: the system's constants, one row each. */
#ifndef SHM_CONSTANTS_H
#define SHM_CONSTANTS_H

#include "compat.h"

int shm_constants_init(PyObject *module);

#endif
