/* Floor 7: the functions that open, make and delete objects. */
#ifndef SHM_OPENING_H
#define SHM_OPENING_H

#include "compat.h"

extern PyMethodDef shm_opening_functions[];

#endif
