/* A function that is chosen when the program starts. */
//# flags: -O2
//# option: --replace chosen=fresh
//# finds: chosen of ifunc-target is an IFUNC: 2 of its implementations are replaced
//# finds: plain at 0x
//# finds: other at 0x
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

static int plain(int x) { return x + 1; }
static int other(int x) { return x + 2; }
static int (*choose(void))(int) { return __builtin_cpu_supports("avx2") ? plain : other; }
int chosen(int x) __attribute__((ifunc("choose")));

int main(void)
{
    ready();
    while (asked())
        SAY("%d", chosen(1));
    return 0;
}
#endif
