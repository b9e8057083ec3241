/* A coroutine is parked inside the function: its stack belongs to no thread. It lies between pages that cannot be read, and the
   program has reserved far more memory than it uses, as sanitizers and databases do. */
//# flags: -O1
//# option: --replace work=new_work
#ifdef PATCH
int new_work(int wait) { return wait ? 2 : 20; }
#else
#include "talk.h"
#include <sys/mman.h>
#include <ucontext.h>

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

enum { STACK = 65536, PAGE = 4096 };
static ucontext_t outside, *inside;
static char *stack;

static void reserve(void)
{
    const int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    stack = mmap(0, STACK, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (stack == MAP_FAILED)
        _Exit(77);
    for (int at = 0; at < STACK; at += STACK - PAGE) /* since Linux 6.13 */
        madvise(stack + at, PAGE, MADV_GUARD_INSTALL);
    inside = (ucontext_t *)(stack + PAGE);
    /* As far as the system lets it, and below the stack. */
    mmap(0, (size_t)1 << 41, PROT_READ | PROT_WRITE, flags, -1, 0);
}

REPLACEABLE int work(int wait)
{
    if (wait)
        swapcontext(inside, &outside);
    return wait ? 1 : 10;
}

static void coroutine(void) { SAY("worked %d", work(1)); }

int main(void)
{
    reserve();
    ready();
    while (asked()) {
        if (!strcmp(question, "park")) {
            getcontext(inside);
            inside->uc_stack.ss_sp = stack + 2 * PAGE;
            inside->uc_stack.ss_size = STACK - 3 * PAGE;
            inside->uc_link = &outside;
            makecontext(inside, coroutine, 0);
            swapcontext(&outside, inside);
            SAY("parked");
        } else if (!strcmp(question, "go on")) {
            swapcontext(&outside, inside);
        } else {
            SAY("%d", work(0));
        }
    }
    return 0;
}
#endif
