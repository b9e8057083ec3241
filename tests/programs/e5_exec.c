/*
 * Many threads sleep, and one that is not the first answers. "exec": it calls exec, and then the program says "another one". With
 * "hold", the first thread stays in `answer`.
 */
//# flags: -O2 -pthread
//# option: --replace answer=new_answer
#ifdef PATCH
int new_answer(void) { return 2; }
#else
#include "talk.h"
#include <pthread.h>
#include <unistd.h>

static volatile int hold;

REPLACEABLE int answer(void)
{
    while (hold)
        pause();
    return 1;
}

static void *sleep_on(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static void *talk(void *unused)
{
    ready();
    while (asked()) {
        if (!strcmp(question, "exec"))
            execl("/proc/self/exe", "e5_exec", "again", NULL);
        SAY("%d", answer());
    }
    _exit(0);
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    if (argc > 1 && !strcmp(argv[1], "again")) {
        while (asked())
            SAY("another one");
        return 0;
    }
    for (int i = 0; i < 8; i++)
        if (pthread_create(&thread, NULL, sleep_on, NULL) != 0)
            return 94;
    if (pthread_create(&thread, NULL, talk, NULL) != 0)
        return 94;
    hold = argc > 1;
    for (;;)
        answer(), pause();
}
#endif
