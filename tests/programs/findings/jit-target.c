/* A library by the name of one that makes code. */
//# flags: -O2 -Wl,--no-as-needed
//# option: --replace answer=fresh
//# finds: libjit-target.so makes code at run time
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

#ifdef LIBRARY
int made(int x) { return x; }
#else
REPLACEABLE int answer(int x) { return x * 10 + 1; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", answer(1));
    return 0;
}
#endif
#endif
