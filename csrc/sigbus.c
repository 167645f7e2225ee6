#include "sigbus.h"

#include "compat.h"

#include <errno.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>

/* ---- the table -------------------------------------------------------- */

/* A row that guards nothing has `start` 0, one that is being filled in has
   `start` RESERVED, which is no address of a page.  `start` is written last
   when a row is filled and first when it is emptied, so the handler, which
   may run between any two instructions of any thread, never sees half a row. */
struct shm_guard {
    _Atomic uintptr_t start;
    _Atomic uintptr_t end;
    _Atomic size_t page_size;
    atomic_int prot;
    atomic_bool *_Atomic faulted;
};

#define RESERVED ((uintptr_t)1)
#define ROWS 64

/* Blocks are added, but never freed: a handler may be walking them. */
typedef struct block {
    shm_guard rows[ROWS];
    struct block *_Atomic next;
} block;

static block first_block;

/* How many handlers are looking at the table. */
static atomic_int handlers_at_work;

_Static_assert(ATOMIC_POINTER_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2,
               "the handler must not meet a lock");

static shm_guard *
row_that_guards(uintptr_t address)
{
    for (block *b = &first_block; b != NULL; b = atomic_load(&b->next)) {
        for (size_t i = 0; i < ROWS; i++) {
            shm_guard *row = &b->rows[i];
            uintptr_t start = atomic_load(&row->start);
            if (start > RESERVED && address >= start && address < atomic_load(&row->end)) {
                return row;
            }
        }
    }
    return NULL;
}

static shm_guard *
claim_row(void)
{
    block *b = &first_block;
    for (;;) {
        for (size_t i = 0; i < ROWS; i++) {
            uintptr_t nothing = 0;
            if (atomic_compare_exchange_strong(&b->rows[i].start, &nothing, RESERVED)) {
                return &b->rows[i];
            }
        }
        block *next = atomic_load(&b->next);
        if (next == NULL) {
            block *fresh = calloc(1, sizeof *fresh);
            if (fresh == NULL) {
                return NULL;
            }
            if (atomic_compare_exchange_strong(&b->next, &next, fresh)) {
                next = fresh;
            }
            else {
                free(fresh);
            }
        }
        b = next;
    }
}

/* ---- the handler ------------------------------------------------------ */

/* Whom it hands on to what it is not concerned with.  A new one is put in
   front of the list each time somebody else is found to have taken our place,
   and none is freed: a handler may be reading it. */
typedef struct action {
    struct sigaction previous;
    struct action *next;
} action;

static action *_Atomic latest_action;

/* Puts zeros in the place of the page at `address`, if that is guarded.
   Called by the handler: nothing but atomics and system calls. */
static bool
replace_page(uintptr_t address)
{
    shm_guard *row = row_that_guards(address);
    if (row == NULL) {
        return false;
    }
    size_t page_size = atomic_load(&row->page_size);
    uintptr_t page = address - address % page_size;
    uintptr_t end = atomic_load(&row->end);
    int prot = atomic_load(&row->prot);
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    atomic_store(atomic_load(&row->faulted), true);
    /* When a process may have no more mappings, one that replaces all the
       rest of the range needs none. */
    return mmap((void *)page, page_size, prot, flags, -1, 0) != MAP_FAILED ||
           mmap((void *)page, end - page, prot, flags, -1, 0) != MAP_FAILED;
}

static void
hand_on(int signum, siginfo_t *info, void *context)
{
    const struct sigaction *previous = &atomic_load(&latest_action)->previous;
    if (previous->sa_flags & SA_SIGINFO) {
        previous->sa_sigaction(signum, info, context);
    }
    else if (previous->sa_handler != SIG_DFL && previous->sa_handler != SIG_IGN) {
        previous->sa_handler(signum);
    }
    else if (info->si_code > 0 || previous->sa_handler == SIG_DFL) {
        /* The access that faulted is made again, and then the kernel does what
           it always did; a signal that was sent has to be sent again. */
        (void)signal(signum, SIG_DFL);
        if (info->si_code <= 0) {
            (void)raise(signum);
        }
    }
}

static void
on_sigbus(int signum, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    /* Only a fault has an address; a signal that somebody sent has none. */
    bool replaced = false;
    if (info->si_code > 0) {
        atomic_fetch_add(&handlers_at_work, 1);
        replaced = replace_page((uintptr_t)info->si_addr);
        atomic_fetch_sub(&handlers_at_work, 1);
    }
    if (!replaced) {
        hand_on(signum, info, context);
    }
    errno = saved_errno;
}

/* Makes ours the handler, in front of whatever is there now: another one may
   have been put in front of it since the last time. */
static int
install_handler(void)
{
    struct sigaction current;
    if (sigaction(SIGBUS, NULL, &current) < 0) {
        return errno;
    }
    if (current.sa_flags & SA_SIGINFO && current.sa_sigaction == on_sigbus) {
        return 0;
    }
    action *latest = malloc(sizeof *latest);
    if (latest == NULL) {
        return ENOMEM;
    }
    latest->previous = current;
    latest->next = atomic_load(&latest_action);
    while (!atomic_compare_exchange_weak(&latest_action, &latest->next, latest)) {
    }
    struct sigaction ours = {.sa_sigaction = on_sigbus,
                             .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER | SA_RESTART};
    (void)sigemptyset(&ours.sa_mask);
    return sigaction(SIGBUS, &ours, NULL) < 0 ? errno : 0;
}

/* ---- what is seen outside --------------------------------------------- */

int
shm_guard_add(void *start, size_t length, size_t page_size, int prot, atomic_bool *faulted,
              shm_guard **guard)
{
    int error = install_handler();
    if (error != 0) {
        return error;
    }
    shm_guard *row = claim_row();
    if (row == NULL) {
        return ENOMEM;
    }
    atomic_store(&row->end, (uintptr_t)start + length);
    atomic_store(&row->page_size, page_size);
    atomic_store(&row->prot, prot);
    atomic_store(&row->faulted, faulted);
    atomic_store(&row->start, (uintptr_t)start);
    *guard = row;
    return 0;
}

void
shm_guard_remove(shm_guard *guard)
{
    atomic_store(&guard->start, RESERVED);
    while (atomic_load(&handlers_at_work) != 0) {
        sched_yield();
    }
    atomic_store(&guard->start, 0);
}

void
shm_guard_protect(shm_guard *guard, int prot)
{
    atomic_store(&guard->prot, prot);
}
