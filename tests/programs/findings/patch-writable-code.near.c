/* Code, data and constants, each in a segment of its own. */
//# flags: -O2
//# patch-flags: -O2
//# option: --replace answer=fresh
#ifdef PATCH
static int count = 3;
int fresh(int x);
int fresh(int x) { return x + ++count; }
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
