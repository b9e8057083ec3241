/* A loop that nothing leaves. */
//# flags: -O2
//# option: --replace works=fresh
//# finds: works at 0x
//# finds: goes back, and nothing leaves
//# finds: --immediate works
#ifdef PATCH
void fresh(void) {}
#else
#include "talk.h"

volatile int done;
REPLACEABLE void works(void);
void works(void)
{
    for (;;)
        done++;
}

int main(int argc, char **argv)
{
    if (argc > 1)
        works();
    ready();
    while (asked())
        SAY("%d", done);
    return 0;
}
#endif
