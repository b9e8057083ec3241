/* Threads stay in the new code: in the new function, in a part of the patch it has jumped to, in its .cold part. */
//# flags: -O2 -pthread
//# patch-flags: -freorder-functions -freorder-blocks-and-partition
//# option: --replace work=new_work
#ifdef PATCH
#include <errno.h>
#include <unistd.h>

extern volatile int go_on, inside;

static void stay(void)
{
    inside = 1;
    while (!go_on)
        usleep(1000);
}

__attribute__((noipa)) static int tail(int x)
{
    stay();
    return x + 1;
}

__attribute__((noipa, cold)) static int cold(int x)
{
    stay();
    errno = 0;
    return x + 1;
}

int new_work(int how)
{
    if (how == 't')
        return tail(100); /* a jump: no return address into new_work is left */
    if (__builtin_expect(how == 'c', 0))
        return cold(100) * 2 - 101;
    if (how == 'i')
        stay();
    return 101;
}
#else
#include "talk.h"
#include <pthread.h>
#include <unistd.h>

volatile int go_on, inside;
static char stack[65536] __attribute__((aligned(4096))); /* glibc would map one, and keep it */

REPLACEABLE int work(int how) { return how < 0 ? 1 : 100; }

static void *call(void *how)
{
    int result = work((int)(intptr_t)how);
    SAY("worked %d", result);
    return 0;
}

int main(void)
{
    pthread_t thread;
    pthread_attr_t own_stack;
    pthread_attr_init(&own_stack);
    pthread_attr_setstack(&own_stack, stack, sizeof stack);
    ready();
    while (asked()) {
        if (!strcmp(question, "end")) {
            go_on = 1;
        } else if (!strncmp(question, "stay ", 5)) {
            go_on = inside = 0;
            int failed = pthread_create(&thread, &own_stack, call, (void *)(intptr_t)question[5]);
            while (!failed && !inside)
                usleep(100);
            SAY("staying %d", failed);
        } else {
            SAY("%d", work('x'));
        }
    }
    return 0;
}
#endif
