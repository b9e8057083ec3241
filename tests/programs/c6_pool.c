/*
 * Two coroutines in one mapping: one is parked inside the function, and the only thread is on the stack of the other one, above. It
 * answers questions; "go on" wakes the parked one, which ends.
 */
//# flags: -O1
//# option: --replace work=new_work
#ifdef PATCH
int new_work(int wait) { return wait ? 2 : 20; }
#else
#include "talk.h"
#include <sys/mman.h>
#include <ucontext.h>

enum { STACK = 65536 };
static ucontext_t outside, parked, talking;

/* Its return address is on the stack alone; that of swapcontext is in `parked` too. */
static __attribute__((noipa)) void yield(void) { swapcontext(&parked, &talking); }

REPLACEABLE int work(int wait)
{
    if (wait)
        yield();
    return wait ? 1 : 10;
}

static void park(void)
{
    SAY("worked %d", work(1));
    wipe_stack();
}

static void talk(void)
{
    ready();
    while (asked()) {
        if (!strcmp(question, "go on"))
            swapcontext(&talking, &parked);
        else
            SAY("%d", work(0));
    }
}

static void prepare(ucontext_t *coroutine, char *stack, void (*run)(void), ucontext_t *next)
{
    getcontext(coroutine);
    coroutine->uc_stack.ss_sp = stack;
    coroutine->uc_stack.ss_size = STACK;
    coroutine->uc_link = next;
    makecontext(coroutine, run, 0);
}

int main(void)
{
    char *stacks = mmap(NULL, 2 * STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (stacks == MAP_FAILED)
        return 94;
    prepare(&parked, stacks, park, &talking);
    prepare(&talking, stacks + STACK, talk, &outside);
    swapcontext(&outside, &parked);
    return 0;
}
#endif
