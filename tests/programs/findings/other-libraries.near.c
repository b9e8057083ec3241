/* The patch names such a library and takes nothing from it. */
//# flags: -O2
//# patch-flags: -Wl,--no-as-needed -l:libz.so.1
//# option: --replace answer=fresh
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
