/* What every target here shares: it says "ready", then answers each line of its input with one line. */
#ifndef TALK_H
#define TALK_H
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

/* A function that the compiler keeps whole: never inlined or cloned, and its callers know nothing of its inside. */
#define REPLACEABLE __attribute__((noipa))

#ifndef PR_SET_PTRACER
#define PR_SET_PTRACER 0x59616d61
#endif

static char question[256];

/* Reads the next line of the input into `question`; 0 at its end. */
static inline int asked(void)
{
    if (!fgets(question, sizeof question, stdin))
        return 0;
    question[strcspn(question, "\n")] = 0;
    return 1;
}

/* Prints one line at once. */
#define SAY(...) (flockfile(stdout), printf(__VA_ARGS__), putchar('\n'), fflush(stdout), funlockfile(stdout))

/* Overwrites what a call has left on the stack: its return addresses look like those of a call that goes on. */
static __attribute__((noipa, unused)) void wipe_stack(void)
{
    volatile char left[4096];
    for (unsigned i = 0; i < sizeof left; i++)
        left[i] = 0;
}

static inline void ready(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);                   /* a dead test leaves nothing running */
    prctl(PR_SET_PTRACER, (unsigned long)-1 /* any */, 0, 0, 0); /* Yama 1: lp-apply is no ancestor of ours */
    SAY("ready");
}

#endif
