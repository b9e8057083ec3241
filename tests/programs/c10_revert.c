/* C10. A thread is asleep in the target's own code; all that is left of the patch on its stack is where the thunk goes on. */
//# flags: -O2 -pthread
//# option: --replace leaf=new_leaf
#ifdef PATCH
int stay(int x);
int new_leaf(int x) { return stay(x ^ 1); } /* a jump */
#else
#include "talk.h"
#include <pthread.h>
#include <unistd.h>

int sink = 1;
volatile int go_on = 1;
static char stack[65536] __attribute__((aligned(4096))); /* glibc would map one, and keep it */

/* With the patch, the value of a call is one larger. */
REPLACEABLE int stay(int x)
{
    while (!go_on)
        usleep(1000);
    return x + 1;
}
__attribute__((noinline)) int leaf(int x) { return x ^ sink; }
__attribute__((noinline)) int caller(int a, int b, int c, int d) { return leaf(a) + b * 1000 + c + d; }

static void *call(void *unused)
{
    int result = caller(0, 2, 3, 2);
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
        } else if (!strcmp(question, "stay")) {
            go_on = 0;
            SAY("staying %d", pthread_create(&thread, &own_stack, call, 0));
        } else {
            SAY("%d", caller(0, 2, 3, 2));
        }
    }
    return stay(0) == 5;
}
#endif
