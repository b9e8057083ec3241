/* A resolver that goes through a GOT slot and another function. */
//# flags: -O2
//# option: --replace chosen=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

static int plain(int x) { return x + 1; }
int __attribute__((visibility("default"))) other(int x) { return x + 2; }
static volatile int which;
static REPLACEABLE int (*pick(void))(int) { return which ? plain : other; }
static int (*choose(void))(int) { return pick(); }
int chosen(int x) __attribute__((ifunc("choose")));

int main(void)
{
    ready();
    while (asked())
        SAY("%d", chosen(1));
    return 0;
}
#endif
