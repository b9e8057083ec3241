/* A section that is writable and executable. */
//# flags: -O2
//# patch-flags: -O2 -Wl,--no-warn-rwx-segments
//# option: --replace answer=fresh
//# finds: writable and executable
#ifdef PATCH
__asm__(".pushsection .both,\"awx\",@progbits\n\t.quad 0\n\t.popsection");
static int count = 3;
int fresh(int x);
int fresh(int x) { return x + ++count; }
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
