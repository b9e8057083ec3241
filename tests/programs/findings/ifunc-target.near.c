/* The implementation that is chosen. */
//# flags: -O2
//# option: --replace plain=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

static REPLACEABLE int plain(int x) { return x + 1; }
static int (*choose(void))(int) { return plain; }
int chosen(int x) __attribute__((ifunc("choose")));

int main(void)
{
    ready();
    while (asked())
        SAY("%d", chosen(1));
    return 0;
}
#endif
