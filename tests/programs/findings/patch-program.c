/* The patch is linked as a program. */
//# flags: -O2
//# patch-flags: -no-pie -nostartfiles -Wl,-e,fresh,--no-undefined -fno-pie
//# option: --replace answer=fresh
//# finds: is a program
#ifdef PATCH
int fresh(int x);
int fresh(int x) { return x; }
#else
#include "talk.h"

REPLACEABLE int answer(int x) { return x * 10 + 1; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", answer(1));
    return 0;
}
#endif
