/*
 * Two threads go into the function and out of it again and again, asleep nearly all the time, most of it outside. Who looks at
 * one asleep outside may find it asleep inside, its stack deeper, a moment later. Before it leaves, it looks whether the
 * function has been replaced meanwhile. Board: rounds, how often that was so.
 */
//# flags: -O2 -pthread
//# option: --replace slow=new_slow
#ifdef PATCH
int new_slow(unsigned us) { return us ? 2 : 3; }
#else
#include "board.h"
#include "talk.h"
#include <pthread.h>

enum { THREADS = 2, ROUNDS = 0, REPLACED, CODE = 16 };

static volatile uint64_t *board;
static unsigned char original[CODE];

static __attribute__((noipa)) void deep(unsigned us)
{
    volatile char frame[2048];
    frame[0] = 0;
    usleep(us + (unsigned)frame[0]);
}

REPLACEABLE int slow(unsigned us)
{
    deep(us);
    if (memcmp(original, (void *)slow, CODE) != 0)
        __atomic_add_fetch(&board[REPLACED], 1, __ATOMIC_RELAXED);
    return 1;
}

static void *loop(void *arg)
{
    for (unsigned n = (unsigned)(uintptr_t)&arg;;) {
        n = n * 1103515245 + 12345;
        usleep(100 + (n >> 22));
        slow(100 + (n >> 16) % 256);
        __atomic_add_fetch(&board[ROUNDS], 1, __ATOMIC_RELAXED);
    }
    return arg;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    memcpy(original, (void *)slow, CODE);
    board = board_open(argv[argc - 1]);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&thread, 0, loop, 0);
    ready();
    while (asked())
        SAY("%d", slow(0));
    return 0;
}
#endif
