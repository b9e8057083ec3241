/* A thread is asleep inside the replaced function; another one ticks and notes the longest time between two ticks. */
//# flags: -O2 -pthread
//# option: --replace slow=new_slow
#ifdef PATCH
int new_slow(int ms) { return ms + 1000; }
#else
#include "board.h"
#include "talk.h"
#include <pthread.h>

static volatile int64_t largest_gap;

/* 0 ms returns at once; less than 0 never. */
REPLACEABLE int slow(int ms)
{
    struct timespec t = {ms / 1000, ms % 1000 * 1000000L};
    while (ms < 0)
        pause();
    nanosleep(&t, 0);
    return ms;
}

static void *hold(void *ms)
{
    int result = slow((int)(intptr_t)ms);
    SAY("held %d", result);
    return 0;
}

static void *tick(void *arg)
{
    for (int64_t last = now();;) {
        int64_t t = now();
        largest_gap = t - last > largest_gap ? t - last : largest_gap;
        last = t;
    }
    return arg;
}

int main(void)
{
    pthread_t thread;
    ready();
    while (asked()) {
        if (!strncmp(question, "hold ", 5))
            SAY("holding %d", pthread_create(&thread, 0, hold, (void *)(intptr_t)atoi(question + 5)));
        else if (!strcmp(question, "tick"))
            SAY("ticking %d", pthread_create(&thread, 0, tick, 0));
        else if (!strcmp(question, "gap"))
            SAY("%ld us", (long)(largest_gap / 1000));
        else
            SAY("%d", slow(0));
    }
    return 0;
}
#endif
