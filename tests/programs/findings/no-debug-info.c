/* A program without debug information. */
//# flags: -O2 -g0
//# finds: no-debug-info has no debug information
//# option: --replace price=new_price
#ifdef PATCH
int new_price(int pieces) { return pieces * 10; }
#else
#include "talk.h"

REPLACEABLE int price(int pieces) { return pieces * 10 + 1; }
REPLACEABLE int weight(int pieces) { return price(pieces); }

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", price(3), weight(3));
    return 0;
}
#endif
