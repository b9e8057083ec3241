/* As analysis-limit.c, with as many levels as somebody might write. */
//# flags: -O2
//# option: --replace counts=fresh
#ifdef PATCH
int fresh(int ******** x, int y) { return y + (x != 0); }
#else
#include "talk.h"

REPLACEABLE int counts(int ******** x, int y) { return y + 2 * (x != 0); }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", counts(0, 1));
    return 0;
}
#endif
