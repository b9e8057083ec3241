/* One thread that never sleeps, with all its registers and its red zone in use. Board: rounds, errors, results of both functions. */
//# flags: -O2
//# option: --replace answer=new_answer --replace second=new_second
#ifdef PATCH
int new_answer(void) { return 2; }
int new_second(void) { return 2; }
#else
#include "board.h"
#include "spin.h"
#include "talk.h"

REPLACEABLE int answer(void) { return 1; }
REPLACEABLE int second(void) { return 1; }

int main(int argc, char **argv)
{
    enum { ROUNDS, ERRORS, VALUE, SECOND };
    volatile uint64_t *board = board_open(argv[argc - 1]);
    ready();
    for (long seed = 1;; seed += 0x123456789) {
        if (spin(seed, 1000000) != 0)
            board[ERRORS]++;
        board[VALUE] = answer();
        board[SECOND] = second();
        board[ROUNDS]++;
    }
}
#endif
