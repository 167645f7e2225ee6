/* Floor 1: a resource that several threads use and any of them may close.

   A descriptor must not be closed, and pages must not be unmapped, while
   another thread is in a system call with them or a view points at them.
   Whoever uses the resource takes a lease on it; closing forbids new leases
   at once, and the last lease to come back disposes of the resource.  This is
   what `close` that defers and `unmap` that is strict are made of.  It needs
   no lock: without a GIL it is made of atomic operations, and with one, which
   everybody who comes here holds, of plain ones, which cost nothing. */
#ifndef SHM_LEASE_H
#define SHM_LEASE_H

#include "compat.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

typedef struct {
    atomic_size_t state;
} shm_lease;

typedef enum {
    SHM_LEASE_WAS_CLOSED, /* by an earlier call */
    SHM_LEASE_DISPOSE,    /* nobody uses it: the caller disposes of it */
    SHM_LEASE_DEFERRED,   /* the last lease to come back will */
} shm_lease_closing;

/* A lease that was never open counts as closed: zeroed memory is one. */
void shm_lease_open(shm_lease *);
/* How many are out. */
size_t shm_lease_count(shm_lease *);
shm_lease_closing shm_lease_close(shm_lease *);
/* Closes it only if no lease is out; true means the caller disposes. */
bool shm_lease_close_if_idle(shm_lease *);
/* Keeps everybody out for a moment, if no lease is out and it is open. */
bool shm_lease_take_alone(shm_lease *);
void shm_lease_give_back_alone(shm_lease *);

/* ---- what every access asks, and so must cost nothing ------------------- */

/* Two flags; the rest of the word counts the leases that are out.  The first
   is OPEN, not CLOSED, so that zeroed memory is a closed lease. */
#define SHM_LEASE_OPEN ((size_t)1)
#define SHM_LEASE_ALONE ((size_t)2)
#define SHM_LEASE_ONE ((size_t)4)

static inline bool
shm_lease_is_open(shm_lease *lease)
{
    return (atomic_load_explicit(&lease->state, memory_order_acquire) & SHM_LEASE_OPEN) != 0;
}

/* Puts `to` in the place of `from`; false if it is something else. */
static inline bool
shm_lease_change(shm_lease *lease, size_t from, size_t to)
{
#ifdef Py_GIL_DISABLED
    return atomic_compare_exchange_strong(&lease->state, &from, to);
#else
    if (atomic_load_explicit(&lease->state, memory_order_relaxed) != from) {
        return false;
    }
    atomic_store_explicit(&lease->state, to, memory_order_relaxed);
    return true;
#endif
}

/* The state once nobody is in there alone, which lasts a few system calls. */
size_t shm_lease_settled_state(shm_lease *);

/* False if it is closed. */
static inline bool
shm_lease_take(shm_lease *lease)
{
    for (;;) {
        size_t state = atomic_load_explicit(&lease->state, memory_order_relaxed);
        if (state & SHM_LEASE_ALONE) {
            state = shm_lease_settled_state(lease);
        }
        if (!(state & SHM_LEASE_OPEN)) {
            return false;
        }
        if (shm_lease_change(lease, state, state + SHM_LEASE_ONE)) {
            return true;
        }
    }
}

/* True if it is closed and this was the last: the caller disposes. */
static inline bool
shm_lease_give_back(shm_lease *lease)
{
    for (;;) {
        size_t state = atomic_load_explicit(&lease->state, memory_order_relaxed);
        if (shm_lease_change(lease, state, state - SHM_LEASE_ONE)) {
            return state == SHM_LEASE_ONE;
        }
    }
}

#endif
