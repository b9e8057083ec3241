/* The function that the program is in from beginning to end. */
//# flags: -O2
//# option: --replace main=fresh
//# finds: main is the program's main function
#ifdef PATCH
int fresh(void) { return 0; }
#else
#include "talk.h"

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
