/*
 * Threads that sleep, and one that notes the largest gap between two looks at the clock. Arguments: how many threads in
 * all; the board. Board: the gap in ns, which whoever measures sets to 0.
 */
//# flags: -O2 -pthread
//# option: --replace answer=new_answer
#ifdef PATCH
int new_answer(void) { return 2; }
#else
#include "board.h"
#include "talk.h"
#include <pthread.h>
#include <sys/resource.h>

enum { GAP, TURNS };

REPLACEABLE int answer(void) { return 1; }

static void *sleeper(void *lock)
{
    pthread_mutex_lock(lock);
    return 0;
}

int main(int argc, char **argv)
{
    static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
    volatile uint64_t *board = board_open(argv[argc - 1]);
    pthread_attr_t small;
    pthread_t thread;
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    pthread_mutex_lock(&lock);
    for (int i = 1; i < atoi(argv[1]); i++)
        if (pthread_create(&thread, &small, sleeper, &lock) != 0)
            return 94;
    /* It is the stop that is measured, not who runs first when a thousand threads are woken. Refused without privilege. */
    setpriority(PRIO_PROCESS, 0, -20);
    ready();
    for (int64_t last = now();; board[TURNS]++) {
        int64_t t = now();
        if ((uint64_t)(t - last) > board[GAP])
            board[GAP] = t - last;
        last = t;
    }
}
#endif
