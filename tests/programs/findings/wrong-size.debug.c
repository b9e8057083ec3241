/* The size leaves out code that nothing in the function leads to: only debug information tells of it. */
//# flags: -O2 -fno-toplevel-reorder
//# option: --replace counts=fresh
//# finds: bytes by its symbol, and
//# finds: by its debug information
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
