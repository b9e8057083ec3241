/* As wrong-size.debug.c, in a stripped program: the unwind table is left. */
//# flags: -O2 -fno-toplevel-reorder -s -rdynamic
//# option: --replace counts=fresh
//# finds: by the unwind table
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

REPLACEABLE int counts(int x)
{
    __asm__ volatile("imul $5, %0, %%eax\n\tinc %%eax\n\tret\n.Lcut:" : : "r"(x) : "eax");
    return x * 3;
}
__asm__(".size counts, .Lcut - counts");

int main(void)
{
    ready();
    while (asked())
        SAY("%d", counts(1));
    return 0;
}
#endif
