/* A thousand threads wait; with "hold" one stays in the function. */
//# flags: -O1 -pthread
//# option: --replace hold=new_hold
#ifdef PATCH
int new_hold(void) { return 2; }
#else
#include "talk.h"
#include <pthread.h>
#include <unistd.h>

enum { THREADS = 1000, STACK = 65536 };

static volatile int leave;

REPLACEABLE int hold(void)
{
    while (!leave)
        pause();
    return 1;
}

static void *stay(void *unused)
{
    hold();
    return unused;
}

static void *sleep_for_ever(void *unused)
{
    for (;;)
        pause();
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    pthread_attr_t small;
    if (pthread_attr_init(&small) || pthread_attr_setstacksize(&small, STACK))
        return 94;
    int holds = argc > 1 && !strcmp(argv[1], "hold");
    for (int i = 0; i < (holds ? 1 : THREADS); i++)
        if (pthread_create(&thread, &small, holds ? stay : sleep_for_ever, NULL))
            return 95;
    ready();
    return !asked();
}
#endif
