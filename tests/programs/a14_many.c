/* 200 functions; a thread calls all of them again and again. Board: rounds, rounds that changed their mind twice, sum of the last round. */
//# flags: -O2 -pthread
#define TEN(M, n) M(n##0) M(n##1) M(n##2) M(n##3) M(n##4) M(n##5) M(n##6) M(n##7) M(n##8) M(n##9)
#define ALL(M) \
    TEN(M, 0) TEN(M, 1) TEN(M, 2) TEN(M, 3) TEN(M, 4) TEN(M, 5) TEN(M, 6) TEN(M, 7) TEN(M, 8) TEN(M, 9) \
    TEN(M, 10) TEN(M, 11) TEN(M, 12) TEN(M, 13) TEN(M, 14) TEN(M, 15) TEN(M, 16) TEN(M, 17) TEN(M, 18) TEN(M, 19)
#ifdef PATCH
#include "livepatch.h"
#define NEW(n) LP_REPLACE(f##n) int new_f##n(void) { return 2; }
ALL(NEW)
#else
#include "board.h"
#include "talk.h"

#define OLD(n) REPLACEABLE int f##n(void) { return 1; }
ALL(OLD)

#define ENTRY(n) f##n,
static int (*const functions[])(void) = {ALL(ENTRY)};
enum { COUNT = sizeof functions / sizeof *functions, ROUNDS = 0, ERRORS, SUM };
_Static_assert(COUNT == 200, "200 functions");

int main(int argc, char **argv)
{
    volatile uint64_t *board = board_open(argv[argc - 1]);
    ready();
    for (;;) {
        int sum = 0, last = 0, changes = 0;
        for (int i = 0; i < COUNT; i++) {
            int result = functions[i]();
            changes += last && result != last;
            last = result;
            sum += result;
        }
        if (changes > 1)
            board[ERRORS]++;
        board[SUM] = sum;
        board[ROUNDS]++;
    }
}
#endif
