/* Two IFUNCs that choose the same function, as memcpy and memmove of glibc do. */
//# flags: -O2
//# option: --replace copy=fresh
//# finds: copy of ifunc-shared is an IFUNC that has implementations in common with move
//# finds: move can choose both
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

static int both(int x) { return x + 1; }
static int plain(int x) { return x + 2; }
static volatile int which;
static int (*choose_copy(void))(int) { return which ? plain : both; }
static int (*choose_move(void))(int) { return both; }
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
