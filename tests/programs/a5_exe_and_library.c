/* A function of the executable and one of its library, in one bundle: both or none. */
//# flags: -O2 -pthread
//# option: --replace liba5_exe_and_library.so:in_library=new_in_library --replace in_exe=new_in_exe
//# ask: exe => 10 | 11
//# ask: library => 20 | 22
#ifdef PATCH
int new_in_exe(int x) { return x + 11; }
int new_in_library(int x) { return x + 22; }
#else
#include "talk.h"
#include <pthread.h>
#include <unistd.h>

int in_library(int x);

#ifdef LIBRARY
/* A negative argument: never returns. */
REPLACEABLE int in_library(int x)
{
    while (x < 0)
        pause();
    return x + 20;
}
#else
REPLACEABLE int in_exe(int x) { return x % 1000 + 10; }

static void *stay(void *arg)
{
    in_library(-1);
    return arg;
}

int main(void)
{
    pthread_t thread;
    ready();
    while (asked()) {
        if (!strcmp(question, "stay"))
            SAY("%d", pthread_create(&thread, 0, stay, 0));
        else
            SAY("%d", question[0] == 'e' ? in_exe(0) : in_library(0));
    }
    return 0;
}
#endif
#endif
