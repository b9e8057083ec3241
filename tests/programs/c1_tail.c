/*
 * A thread calls `outer` without pause. Its last deed is to call `inner`: a jump, which leaves nothing on the stack. Both must be of
 * one version. Board: rounds, wrong results, old results, new results.
 */
//# flags: -O2 -pthread
//# option: --replace outer=new_outer --replace inner=new_inner
#ifdef PATCH
long inner(long x);
long new_inner(long x) { return x == 20 ? 2 : -1; }
long new_outer(long x) { return inner(20 + 0 * x); }
#else
#include "board.h"
#include "talk.h"
#include <pthread.h>

enum { ROUNDS, ERRORS, OLD, NEW };

static volatile uint64_t *board;

REPLACEABLE long inner(long x) { return x == 10 ? 1 : -1; }
REPLACEABLE long outer(long x) { return inner(10 + 0 * x); }

static void *loop(void *arg)
{
    for (;;) {
        long result = outer(7);
        board[result == 1 ? OLD : result == 2 ? NEW : ERRORS]++;
        board[ROUNDS]++;
    }
    return arg;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    board = board_open(argv[argc - 1]);
    if (pthread_create(&thread, 0, loop, 0))
        return 94;
    ready();
    for (;;)
        pause();
}
#endif
