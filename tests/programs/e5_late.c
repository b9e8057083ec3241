/* A thread is in the function until it is told to leave. Another process shares the memory from "share" on. */
//# flags: -O1 -pthread
//# option: --replace hold=new_hold
#ifdef PATCH
int new_hold(void) { return 2; }
#else
#include "talk.h"
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

static volatile int leave;

REPLACEABLE int hold(void)
{
    while (!leave)
        usleep(1000);
    return 1;
}

static void *stay(void *result)
{
    *(int *)result = hold();
    return result;
}

static int sharer(void *arg)
{
    (void)arg;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    for (;;)
        pause();
}

int main(void)
{
    static char stack[65536];
    static int result;
    pthread_t thread;
    if (pthread_create(&thread, NULL, stay, &result))
        return 94;
    ready();
    while (asked()) {
        if (!strcmp(question, "share"))
            SAY(clone(sharer, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL) > 0 ? "shared" : "not shared");
        else {
            leave = 1;
            pthread_join(thread, NULL);
            SAY("%d", result);
        }
    }
    return 0;
}
#endif
