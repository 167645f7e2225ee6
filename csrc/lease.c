#include "lease.h"

#include <sched.h>

#define OPEN SHM_LEASE_OPEN
#define ALONE ((size_t)2)
#define ONE ((size_t)4)

void
shm_lease_open(shm_lease *lease)
{
    atomic_store(&lease->state, OPEN);
}

size_t
shm_lease_count(shm_lease *lease)
{
    return atomic_load(&lease->state) / ONE;
}

/* The state once nobody is in there alone, which lasts a few system calls. */
static size_t
settled_state(shm_lease *lease)
{
    size_t state;
    while ((state = atomic_load(&lease->state)) & ALONE) {
        sched_yield();
    }
    return state;
}

bool
shm_lease_take(shm_lease *lease)
{
    for (;;) {
        size_t state = settled_state(lease);
        if (!(state & OPEN)) {
            return false;
        }
        if (atomic_compare_exchange_weak(&lease->state, &state, state + ONE)) {
            return true;
        }
    }
}

bool
shm_lease_give_back(shm_lease *lease)
{
    return atomic_fetch_sub(&lease->state, ONE) == ONE;
}

shm_lease_closing
shm_lease_close(shm_lease *lease)
{
    for (;;) {
        size_t state = settled_state(lease);
        if (!(state & OPEN)) {
            return SHM_LEASE_WAS_CLOSED;
        }
        if (atomic_compare_exchange_weak(&lease->state, &state, state - OPEN)) {
            return state == OPEN ? SHM_LEASE_DISPOSE : SHM_LEASE_DEFERRED;
        }
    }
}

bool
shm_lease_close_if_idle(shm_lease *lease)
{
    settled_state(lease);
    size_t idle = OPEN;
    return atomic_compare_exchange_strong(&lease->state, &idle, 0);
}

bool
shm_lease_take_alone(shm_lease *lease)
{
    settled_state(lease);
    size_t idle = OPEN;
    return atomic_compare_exchange_strong(&lease->state, &idle, OPEN | ALONE);
}

void
shm_lease_give_back_alone(shm_lease *lease)
{
    atomic_store(&lease->state, OPEN);
}
