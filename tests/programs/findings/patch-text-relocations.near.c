/* An address in its data. */
//# flags: -O2
//# patch-flags: -O2
//# option: --replace answer=fresh
#ifdef PATCH
int fresh(int x);
int fresh(int x) { return x; }
int (*const table[])(int) = { fresh };
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
