/* The code of the patch has an address in it. */
//# flags: -O2
//# patch-flags: -O2 -Wl,-z,notext
//# option: --replace answer=fresh
//# finds: DT_TEXTREL
#ifdef PATCH
int fresh(int x);
int fresh(int x) { return x; }
__asm__(".text\n\t.quad fresh\n");
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
