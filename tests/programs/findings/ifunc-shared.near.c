/* Two IFUNCs, each with a function of its own. */
//# flags: -O2
//# option: --replace copy=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

static int one(int x) { return x + 1; }
static int two(int x) { return x + 2; }
static int (*choose_copy(void))(int) { return one; }
static int (*choose_move(void))(int) { return two; }
int copy(int x) __attribute__((ifunc("choose_copy")));
int move(int x) __attribute__((ifunc("choose_move")));

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", copy(1), move(1));
    return 0;
}
#endif
