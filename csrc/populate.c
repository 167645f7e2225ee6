#include "populate.h"

#include "syscalls.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>

/* What a worker takes at a time: long enough that taking costs nothing, short
   enough that the workers end together and signals don't wait. */
#define PIECE ((size_t)16 << 20)

typedef struct {
    char *start;
    size_t length;
    bool write;
    atomic_size_t next; /* where the next piece begins */
    atomic_int error;   /* the first that any worker met */
    /* A daemon thread that ends with the interpreter may be gone before the
       workers that it started. */
    atomic_int holders;
} job;

static void
let_go(job *j)
{
    if (atomic_fetch_sub(&j->holders, 1) == 1) {
        free(j);
    }
}

/* Takes one piece and populates it; false if there is nothing more to do. */
static bool
populate_piece(job *j)
{
    size_t from = atomic_fetch_add(&j->next, PIECE);
    if (from >= j->length || atomic_load(&j->error) != 0) {
        return false;
    }
    size_t length = j->length - from < PIECE ? j->length - from : PIECE;
    int error = shm_sys_populate(j->start + from, length, j->write);
    if (error != 0) {
        int none = 0;
        atomic_compare_exchange_strong(&j->error, &none, error);
        return false;
    }
    return true;
}

static void *
work(void *argument)
{
    while (populate_piece(argument)) {
    }
    let_go(argument);
    return NULL;
}

/* Starts up to `count` threads that get no signals; returns how many. */
static int
start_workers(job *j, pthread_t *threads, int count)
{
    sigset_t all, before;
    int started = 0;
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &before);
    while (started < count) {
        atomic_fetch_add(&j->holders, 1);
        if (pthread_create(&threads[started], NULL, work, j) != 0) {
            let_go(j);
            break;
        }
        started++;
    }
    (void)pthread_sigmask(SIG_SETMASK, &before, NULL);
    return started;
}

/* The calling thread's share. */
static void
work_and_watch(job *j)
{
    bool more = true;
    while (more) {
        Py_BEGIN_ALLOW_THREADS;
        more = populate_piece(j);
        Py_END_ALLOW_THREADS;
        if (more && PyErr_CheckSignals() < 0) {
            atomic_store(&j->error, SHM_INTERRUPTED);
            more = false;
        }
    }
}

int
shm_populate(void *start, size_t length, bool write, int workers)
{
    size_t pieces = length / PIECE + (length % PIECE != 0);
    size_t helpers = (size_t)workers < pieces ? (size_t)workers : pieces;
    helpers -= helpers > 0;
    pthread_t *threads = calloc(helpers + 1, sizeof *threads);
    job *j = calloc(1, sizeof *j);
    if (threads == NULL || j == NULL) {
        free(threads);
        free(j);
        return ENOMEM;
    }
    j->start = start;
    j->length = length;
    j->write = write;
    atomic_store(&j->holders, 1);
    /* Fewer threads than wanted make it slower, not wrong. */
    int started = start_workers(j, threads, (int)helpers);
    work_and_watch(j);
    Py_BEGIN_ALLOW_THREADS;
    for (int i = 0; i < started; i++) {
        (void)pthread_join(threads[i], NULL);
    }
    Py_END_ALLOW_THREADS;
    free(threads);
    int error = atomic_load(&j->error);
    let_go(j);
    return error;
}
