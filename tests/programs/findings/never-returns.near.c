/* A loop that a break leaves; a function that ends the program; and an endless one of which it is said that it may be inside. */
//# flags: -O2
//# option: --replace works=fresh --replace ends=fresh --replace serves=fresh --immediate serves
#ifdef PATCH
void fresh(void) {}
#else
#include "talk.h"

volatile int done;
REPLACEABLE void works(void);
REPLACEABLE void ends(void);
REPLACEABLE void serves(void);

void works(void)
{
    for (;;)
        if (done++ > 100)
            break;
}

void ends(void)
{
    puts("bad");
    abort();
}

void serves(void)
{
    for (;;)
        done++;
}

int main(int argc, char **argv)
{
    if (argc > 3)
        serves();
    if (argc > 2)
        ends();
    works();
    ready();
    while (asked())
        SAY("%d", done);
    return 0;
}
#endif
