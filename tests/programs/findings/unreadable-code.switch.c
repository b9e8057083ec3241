/* One case of a jump table runs into such a byte. */
//# flags: -O2
//# option: --replace counts=fresh
//# finds: 06 07
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

extern int out[8];
int out[8];
REPLACEABLE int counts(int x)
{
    switch (x) {
    case 0: out[1] = 7; break;
    case 1: out[3] = 1; out[4] = 3; break;
    case 2: __asm__ volatile(".byte 6, 7"); break;
    case 3: out[5] = x + 2; out[0] = 9; break;
    case 4: out[6] = x; out[2] = 4; break;
    case 5: out[7] = 11; break;
    }
    return out[x & 7];
}

int main(void)
{
    ready();
    while (asked())
        SAY("%d", counts(1));
    return 0;
}
#endif
