#include "lease.h"

#include <sched.h>

#define OPEN SHM_LEASE_OPEN
#define ALONE SHM_LEASE_ALONE
#define ONE SHM_LEASE_ONE

static void
set_state(shm_lease *lease, size_t state)
{
    atomic_store_explicit(&lease->state, state, memory_order_release);
}

void
shm_lease_open(shm_lease *lease)
{
    set_state(lease, OPEN);
}

size_t
shm_lease_count(shm_lease *lease)
{
    return atomic_load(&lease->state) / ONE;
}

size_t
shm_lease_settled_state(shm_lease *lease)
{
    size_t state;
    while ((state = atomic_load(&lease->state)) & ALONE) {
        sched_yield();
    }
    return state;
}

shm_lease_closing
shm_lease_close(shm_lease *lease)
{
    for (;;) {
        size_t state = shm_lease_settled_state(lease);
        if (!(state & OPEN)) {
            return SHM_LEASE_WAS_CLOSED;
        }
        if (shm_lease_change(lease, state, state - OPEN)) {
            return state == OPEN ? SHM_LEASE_DISPOSE : SHM_LEASE_DEFERRED;
        }
    }
}

bool
shm_lease_close_if_idle(shm_lease *lease)
{
    shm_lease_settled_state(lease);
    return shm_lease_change(lease, OPEN, 0);
}

bool
shm_lease_take_alone(shm_lease *lease)
{
    shm_lease_settled_state(lease);
    return shm_lease_change(lease, OPEN, OPEN | ALONE);
}

void
shm_lease_give_back_alone(shm_lease *lease)
{
    set_state(lease, OPEN);
}
