/* What a program in C does with SIGBUS, beside a guard. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

static sigjmp_buf before;
static volatile int hits, had_mask;
static char stack[1 << 16];
static volatile int was_on_stack;

static void
handler(int signum, siginfo_t *info, void *context)
{
    char here;
    sigset_t mask;
    (void)signum, (void)info, (void)context;
    (void)sigprocmask(SIG_BLOCK, NULL, &mask);
    had_mask = sigismember(&mask, SIGUSR2);
    was_on_stack = &here >= stack && &here < stack + sizeof stack;
    hits++;
    siglongjmp(before, 1);
}

/* A handler that leaves by a jump, on a stack of its own, with a mask. */
int
install(void)
{
    stack_t own = {.ss_sp = stack, .ss_size = sizeof stack};
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_ONSTACK};
    sigemptyset(&action.sa_mask);
    sigaddset(&action.sa_mask, SIGUSR2);
    return sigaltstack(&own, NULL) | sigaction(SIGBUS, &action, NULL);
}

/* The same without a stack of its own. */
int
install_here(void)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO};
    sigemptyset(&action.sa_mask);
    return sigaction(SIGBUS, &action, NULL);
}

int
handled(void)
{
    return hits;
}

int
handled_on_stack(void)
{
    return was_on_stack;
}

int
handled_with_mask(void)
{
    return had_mask;
}

/* Reads a byte, far down on the stack. */
void
touch(const volatile char *address)
{
    volatile char deep[1 << 16];
    deep[0] = 0;
    if (sigsetjmp(before, 1) == 0) {
        deep[0] = *address;
    }
}

void
raise_here(void)
{
    if (sigsetjmp(before, 1) == 0) {
        (void)raise(SIGBUS);
    }
}

/* The kernel's word that something is wrong with an address. */
void
report(int code, void *address)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_signo = SIGBUS;
    info.si_code = code;
    info.si_addr = address;
    if (sigsetjmp(before, 1) == 0) {
        (void)syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), SIGBUS, &info);
    }
}

/* Whether errno is something else after one of `count` reads. */
int
errno_changes(const volatile char *address, size_t count, size_t step)
{
    volatile int *error = &errno;
    for (size_t i = 0; i < count; i++) {
        *error = EXDEV;
        (void)address[i * step];
        if (*error != EXDEV) {
            return 1;
        }
    }
    return 0;
}
