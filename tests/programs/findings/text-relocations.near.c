/* The same address in data. */
//# flags: -O2 -Wl,-z,notext
//# option: --replace answer=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".pushsection .data\n\t.globl entry\nentry:\t.quad main\n\t.popsection");
REPLACEABLE int answer(int x) { return x * 10 + 1; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", answer(1));
    return 0;
}
#endif
