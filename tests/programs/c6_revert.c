/*
 * A coroutine is parked inside the function ("park"), on a stack that is wiped when it is done ("go on"). And the program keeps
 * ("keep") what another function has returned, until it is told to "forget" it; or it has it in a register alone ("hold") until the
 * next line comes.
 */
//# flags: -O1
//# option: --replace work=new_work --replace name=new_name
#ifdef PATCH
void park(void);
int new_work(int wait)
{
    if (wait)
        park();
    return wait ? 2 : 20;
}
const char *new_name(void) { return "the new one"; }
#else
#include "talk.h"
#include <ucontext.h>

static ucontext_t outside, inside;
static char stack[65536];
static const char *kept;

__attribute__((noipa)) void park(void) { swapcontext(&inside, &outside); }

REPLACEABLE int work(int wait)
{
    if (wait)
        park();
    return wait ? 1 : 10;
}

REPLACEABLE const char *name(void) { return "the old one"; }

static __attribute__((noipa)) void hold(void)
{
    char line[64];
    const unsigned long mask = 0x5a5a5a5a5a5a5a5a;
    unsigned long masked = (unsigned long)name() ^ mask;
    long done = 0; /* read(2) */
    SAY("holding");
    __asm__ volatile("xor %[mask], %%rbx; syscall; xor %[mask], %%rbx"
                     : "+a"(done), "+b"(masked)
                     : "D"(0), "S"(line), "d"(sizeof line), [mask] "r"(mask)
                     : "rcx", "r11", "memory");
    SAY("%s", (const char *)(masked ^ mask));
}

static void coroutine(void) { SAY("worked %d", work(1)); }

int main(void)
{
    ready();
    while (asked()) {
        if (!strcmp(question, "park")) {
            getcontext(&inside);
            inside.uc_stack.ss_sp = stack;
            inside.uc_stack.ss_size = sizeof stack;
            inside.uc_link = &outside;
            makecontext(&inside, coroutine, 0);
            swapcontext(&outside, &inside);
            SAY("parked");
        } else if (!strcmp(question, "go on")) {
            swapcontext(&outside, &inside);
            memset(stack, 0, sizeof stack);
            memset(&inside, 0, sizeof inside);
        } else if (!strcmp(question, "keep")) {
            kept = name();
            SAY("kept");
        } else if (!strcmp(question, "hold")) {
            hold();
        } else if (!strcmp(question, "forget")) {
            SAY("%s", kept);
            kept = NULL;
        } else {
            SAY("%d", work(0));
        }
    }
    return 0;
}
#endif
