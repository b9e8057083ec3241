/*
 * Eight threads call two functions without pause; the first calls the second, and both must be of one version.
 * Board: rounds, wrong results, old results, new results.
 */
//# flags: -O2 -pthread
//# option: --replace outer=new_outer --replace inner=new_inner
#ifdef PATCH
int inner(long x);
int new_inner(long x) { return x == 7 ? 2 : -1; }
long new_outer(long x)
{
    long mine = 20;
    __asm__ volatile("pause" : "+r"(mine));
    return mine + inner(x);
}
#else
#include "board.h"
#include "talk.h"
#include <pthread.h>

enum { THREADS = 8, ROUNDS = 0, ERRORS, OLD, NEW };

static volatile uint64_t *board;

REPLACEABLE int inner(long x) { return x == 7 ? 1 : -1; }
REPLACEABLE long outer(long x)
{
    long mine = 10;
    __asm__ volatile("pause" : "+r"(mine));
    return mine + inner(x);
}

static void *loop(void *arg)
{
    for (unsigned pause = 1;; pause = pause * 1103515245 + 12345) {
        long result = outer(7);
        int place = result == 11 ? OLD : result == 22 ? NEW : ERRORS;
        __atomic_add_fetch(&board[place], 1, __ATOMIC_RELAXED);
        __atomic_add_fetch(&board[ROUNDS], 1, __ATOMIC_RELAXED);
        for (volatile unsigned n = pause >> 22; n; n--) /* or no moment would ever be quiet */
            ;
    }
    return arg;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    board = board_open(argv[argc - 1]);
    for (int i = 0; i < THREADS; i++)
        pthread_create(&thread, 0, loop, 0);
    ready();
    while (asked())
        SAY("%ld", outer(7));
    return 0;
}
#endif
