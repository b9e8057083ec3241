/* The same without the library. */
//# flags: -O2 -Wl,--no-as-needed
//# option: --replace answer=fresh
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
