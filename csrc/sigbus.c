#include "sigbus.h"

#include "compat.h"

#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

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
    atomic_int handlers; /* that are at work on this row */
};

#define RESERVED ((uintptr_t)1)
#define ROWS 64

/* Blocks are added, but never freed: a handler may be walking them. */
typedef struct block {
    shm_guard rows[ROWS];
    struct block *_Atomic next;
} block;

static block first_block;

_Static_assert(ATOMIC_POINTER_LOCK_FREE == 2 && ATOMIC_INT_LOCK_FREE == 2,
               "the handler must not meet a lock");

/* Whether the row guards the address; if so it stays as it is until
   leave_row.  Whoever empties it either sees this handler or is seen by it. */
static bool
enter_row(shm_guard *row, uintptr_t address)
{
    uintptr_t start = atomic_load(&row->start);
    if (start <= RESERVED || address < start || address >= atomic_load(&row->end)) {
        return false;
    }
    atomic_fetch_add(&row->handlers, 1);
    if (atomic_load(&row->start) == start && address < atomic_load(&row->end)) {
        return true;
    }
    atomic_fetch_sub(&row->handlers, 1);
    return false;
}

static void
leave_row(shm_guard *row)
{
    atomic_fetch_sub(&row->handlers, 1);
}

static shm_guard *
enter_row_that_guards(uintptr_t address)
{
    for (block *b = &first_block; b != NULL; b = atomic_load(&b->next)) {
        for (size_t i = 0; i < ROWS; i++) {
            if (enter_row(&b->rows[i], address)) {
                return &b->rows[i];
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
            if (atomic_load(&b->rows[i].start) == nothing &&
                atomic_compare_exchange_strong(&b->rows[i].start, &nothing, RESERVED)) {
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

/* What a thread's handlers know of one another.  It has its place in the
   thread from the start, so that no handler need make one. */
static _Thread_local struct {
    const action *handed_to; /* whom a signal was handed on to last, */
    uintptr_t stack;         /* and where the stack was then */
    uintptr_t fault;         /* the last address that nobody guarded, or 0 */
} this_thread SHM_STATIC_TLS;

/* A process may have so many mappings and no more, and one that replaces a
   page in the middle of another counts for two.  These are given up when
   there are too many, so that there is room for one that replaces all the
   rest of a range. */
#define SPARES ((size_t)5)

static char *_Atomic spare_mappings;
static size_t small_page; /* what sysconf says: a handler must not ask it */

static void
stock_spare_mappings(void)
{
    if (atomic_load(&spare_mappings) != NULL) {
        return;
    }
    char *pages =
        mmap(NULL, SPARES * small_page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (pages == MAP_FAILED) {
        return;
    }
    for (size_t i = 0; i < SPARES; i += 2) { /* neighbours that differ stay apart */
        (void)mprotect(pages + i * small_page, small_page, PROT_READ);
    }
    char *none = NULL;
    if (!atomic_compare_exchange_strong(&spare_mappings, &none, pages)) {
        (void)munmap(pages, SPARES * small_page);
    }
}

static void
give_up_spare_mappings(void)
{
    char *pages = atomic_exchange(&spare_mappings, NULL);
    if (pages != NULL) {
        (void)munmap(pages, SPARES * small_page);
    }
}

static bool
map_zeros(uintptr_t start, size_t length, int prot)
{
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE;
    return mmap((void *)start, length, prot, flags, -1, 0) != MAP_FAILED;
}

/* Puts zeros in the place of the page at `address`, if that is guarded.
   Called by the handler: nothing but atomics and system calls. */
static bool
replace_page(uintptr_t address)
{
    shm_guard *row = enter_row_that_guards(address);
    if (row == NULL) {
        return false;
    }
    size_t page_size = atomic_load(&row->page_size);
    uintptr_t page = address - address % page_size;
    uintptr_t end = atomic_load(&row->end);
    int prot = atomic_load(&row->prot);
    atomic_store(atomic_load(&row->faulted), true);
    bool replaced = map_zeros(page, page_size, prot);
    if (!replaced) {
        give_up_spare_mappings();
        replaced = map_zeros(page, end - page, prot);
    }
    leave_row(row);
    return replaced;
}

/* What the system would do.  After a fault that is to repeat the access, with
   nobody in between; a signal that was sent has to be sent again. */
static void
act_by_default(int signum, const siginfo_t *info)
{
    (void)signal(signum, SIG_DFL);
    if (info->si_code <= 0) {
        (void)raise(signum);
    }
}

static void
hand_on(const action *to, int signum, siginfo_t *info, void *context)
{
    const struct sigaction *previous = to == NULL ? NULL : &to->previous;
    if (previous == NULL || previous->sa_handler == SIG_DFL ||
        (previous->sa_handler == SIG_IGN && info->si_code > 0)) {
        act_by_default(signum, info);
        return;
    }
    if (previous->sa_handler == SIG_IGN) {
        return;
    }
    sigset_t mask;
    (void)pthread_sigmask(SIG_BLOCK, &previous->sa_mask, &mask);
    this_thread.handed_to = to;
    this_thread.stack = (uintptr_t)&mask;
    if (previous->sa_flags & SA_SIGINFO) {
        previous->sa_sigaction(signum, info, context);
    }
    else {
        previous->sa_handler(signum);
    }
    this_thread.handed_to = NULL;
    (void)pthread_sigmask(SIG_SETMASK, &mask, NULL);
}

/* Whether a handler that was put in front of ours, and runs on a stack of its
   own, has handed a fault on by raising the signal: faulthandler, if it was
   enabled after the first guard.  Nothing is to be done then: when it returns
   the access is made again, and ours is in front again. */
static bool
is_fault_handed_on(const siginfo_t *info, const ucontext_t *context)
{
    uintptr_t handlers_stack = (uintptr_t)context->uc_stack.ss_sp;
    uintptr_t raised_at = SHM_STACK_POINTER(context);
    return info->si_pid == getpid() && raised_at >= handlers_stack &&
           raised_at < handlers_stack + context->uc_stack.ss_size;
}

/* An access to memory that is not there. */
static void
on_fault(int signum, siginfo_t *info, void *context)
{
    uintptr_t address = (uintptr_t)info->si_addr;
    if (replace_page(address)) {
        this_thread.fault = 0;
    }
    else if (this_thread.fault != address) {
        /* The guard may have ended since the access was made, and then there
           is memory now: let it be made again before anybody dies of it. */
        this_thread.fault = address;
    }
    else {
        this_thread.fault = 0;
        hand_on(atomic_load(&latest_action), signum, info, context);
    }
}

/* A signal that somebody sent. */
static void
on_signal(int signum, siginfo_t *info, void *context)
{
    /* A previous handler may restore ours and raise the signal again
       (faulthandler does): that one is for whoever was there before it.  One
       that has left by a jump is not on the stack any more. */
    const action *outer = this_thread.handed_to;
    if (outer != NULL && (uintptr_t)&outer < this_thread.stack) {
        hand_on(outer->next, signum, info, context);
    }
    else if (!is_fault_handed_on(info, context)) {
        hand_on(atomic_load(&latest_action), signum, info, context);
    }
}

static void
on_sigbus(int signum, siginfo_t *info, void *context)
{
    int saved_errno = errno;
    if (info->si_code <= 0) {
        on_signal(signum, info, context);
    }
    else if (!SHM_IS_MISSING_PAGE(info->si_code)) {
        hand_on(atomic_load(&latest_action), signum, info, context);
    }
    else {
        on_fault(signum, info, context);
    }
    errno = saved_errno;
}

/* The threads whose handlers were at work are not in the child. */
static void
forget_handlers(void)
{
    for (block *b = &first_block; b != NULL; b = atomic_load(&b->next)) {
        for (size_t i = 0; i < ROWS; i++) {
            atomic_store(&b->rows[i].handlers, 0);
        }
    }
}

static int atfork_error;

static void
begin_once(void)
{
    small_page = (size_t)sysconf(_SC_PAGESIZE);
    atfork_error = pthread_atfork(NULL, NULL, forget_handlers);
}

/* Makes ours the handler, in front of whatever is there now: another one may
   have been put in front of it since the last time. */
static int
install_handler(void)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct sigaction current;
    if (pthread_once(&once, begin_once) != 0 || atfork_error != 0) {
        return ENOMEM;
    }
    stock_spare_mappings();
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

/* Makes the row nobody's for a moment. */
static void
suspend(shm_guard *guard)
{
    atomic_store(&guard->start, RESERVED);
    while (atomic_load(&guard->handlers) != 0) {
        sched_yield();
    }
}

void
shm_guard_remove(shm_guard *guard)
{
    suspend(guard);
    atomic_store(&guard->start, 0);
}

void
shm_guard_move(shm_guard *guard, void *start)
{
    uintptr_t length = atomic_load(&guard->end) - atomic_load(&guard->start);
    suspend(guard);
    atomic_store(&guard->end, (uintptr_t)start + length);
    atomic_store(&guard->start, (uintptr_t)start);
}

void
shm_guard_protect(shm_guard *guard, int prot)
{
    atomic_store(&guard->prot, prot);
}
