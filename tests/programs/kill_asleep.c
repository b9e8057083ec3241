/* One thread, nearly always in nanosleep. Board: rounds, errors (EINTR, early return), results of both functions. */
//# option: --replace answer=new_answer --replace second=new_second
#ifdef PATCH
int new_answer(void) { return 2; }
int new_second(void) { return 2; }
#else
#include "board.h"
#include "talk.h"

REPLACEABLE int answer(void) { return 1; }
REPLACEABLE int second(void) { return 1; }

int main(int argc, char **argv)
{
    enum { ROUNDS, ERRORS, VALUE, SECOND };
    static const struct timespec WAIT = {0, 20000000};
    volatile uint64_t *board = board_open(argv[argc - 1]);
    ready();
    for (;;) {
        int64_t start = now();
        if (nanosleep(&WAIT, 0) != 0 || now() - start < WAIT.tv_nsec)
            board[ERRORS]++;
        board[VALUE] = answer();
        board[SECOND] = second();
        board[ROUNDS]++;
    }
}
#endif
