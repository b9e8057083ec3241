/* An array is no function. */
//# flags: -O2
//# option: --replace table=fresh
//# finds: table at 0x
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

int table[4] = { 1, 2, 3, 4 };

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
