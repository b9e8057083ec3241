/* A thread is inside `f`, and most of the time in a vfork there: glibc keeps its return address in a register then. */
//# flags: -O2 -pthread
//# option: --replace f=new_f
#ifdef PATCH
int new_f(void) { return 2; }
#else
#include "talk.h"
#include <pthread.h>
#include <sys/wait.h>
#include <unistd.h>

static volatile int stay = 1;

REPLACEABLE int f(void)
{
    while (stay) {
        pid_t child = vfork();
        if (child == 0)
            _exit(0);
        waitpid(child, NULL, 0);
    }
    return 1;
}

static void *call(void *unused)
{
    f();
    return unused;
}

int main(void)
{
    pthread_t thread;
    if (pthread_create(&thread, NULL, call, NULL) != 0)
        return 94;
    ready();
    while (asked()) {
        stay = 0;
        pthread_join(thread, NULL);
        SAY("%d", f());
    }
    return 0;
}
#endif
