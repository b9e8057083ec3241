/* A resolver that looks its choice up in a table. */
//# flags: -O2
//# option: --replace chosen=fresh
//# finds: its resolver does not show which implementations it chooses from
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

static int plain(int x) { return x + 1; }
static int other(int x) { return x + 2; }
static volatile int which;
static int (*const table[])(int) = {plain, other};
static int (*choose(void))(int) { return table[which]; }
int chosen(int x) __attribute__((ifunc("choose")));

int main(void)
{
    ready();
    while (asked())
        SAY("%d", chosen(1));
    return 0;
}
#endif
