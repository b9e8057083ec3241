/* A real-time thread computes on the first processor and never lets go of it; another thread, an ordinary one, answers. */
//# flags: -O2 -pthread
//# option: --replace answer=new_answer
#ifdef PATCH
int new_answer(void) { return 2; }
#else
#include "talk.h"
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

REPLACEABLE int answer(void) { return 1; }

static void *compute(void *unused)
{
    struct sched_param urgent = {.sched_priority = 50};
    cpu_set_t first;
    CPU_ZERO(&first);
    CPU_SET(0, &first);
    if (sched_setaffinity(0, sizeof first, &first) != 0 || sched_setscheduler(0, SCHED_FIFO, &urgent) != 0)
        _exit(95);
    for (;;)
        answer();
    return unused;
}

int main(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, compute, NULL) != 0)
        return 94;
    ready();
    while (asked())
        SAY("%d", answer());
    _exit(0);
}
#endif
