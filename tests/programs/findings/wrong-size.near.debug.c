/* The size takes in the padding behind the function. */
//# flags: -O2 -fno-toplevel-reorder
//# option: --replace counts=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

REPLACEABLE int counts(int x) { return x * 3; }
__asm__(".text\n\t.byte 0xcc, 0xcc, 0xcc\n\t.balign 16, 0x90\n\t.size counts, . - counts");

int main(void)
{
    ready();
    while (asked())
        SAY("%d", counts(1));
    return 0;
}
#endif
