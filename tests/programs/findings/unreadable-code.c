/* A trap made of a byte that is no instruction in 64-bit code: the function runs into it where x is negative. */
//# flags: -O2
//# option: --replace counts=fresh
//# finds: counts runs into bytes that are no known instruction
//# finds: 06 06
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

REPLACEABLE int counts(int x)
{
    int y = x * 3;
    __asm__ volatile("" : "+r"(y));
    if (x < 0)
        __asm__ volatile(".byte 6, 6");
    return y + x;
}

int main(void)
{
    ready();
    while (asked())
        SAY("%d", counts(1));
    return 0;
}
#endif
