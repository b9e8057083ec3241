/* The patch chooses when it is loaded. */
//# flags: -O2
//# patch-flags: -O2
//# option: --replace answer=fresh
//# finds: chosen
#ifdef PATCH
static int plain(int x) { return x; }
static int (*choose(void))(int) { return plain; }
int chosen(int x) __attribute__((ifunc("choose")));
int fresh(int x);
int fresh(int x) { return chosen(x); }
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
