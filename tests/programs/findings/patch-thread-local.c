/* A thread-local variable of the patch. */
//# flags: -O2
//# patch-flags: -O2
//# option: --replace answer=fresh
//# finds: depth
#ifdef PATCH
static __thread int depth;
int fresh(int x);
int fresh(int x) { return x + ++depth; }
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
