/* Without symbols nobody knows where the function behind this one starts, which it calls as its last act. */
//# flags: -O2 -s -rdynamic -fno-toplevel-reorder
//# option: --replace answer=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

static int helper(int x);

REPLACEABLE int answer(int x) { return helper(x + 1); }

__attribute__((noipa)) static int helper(int x) { return x * 3; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", answer(1));
    return 0;
}
#endif
