/* A program that was linked without a build-id. */
//# flags: -O2 -Wl,--build-id=none
//# option: --replace answer=fresh
//# finds: no-build-id has no build-id
#ifdef PATCH
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
