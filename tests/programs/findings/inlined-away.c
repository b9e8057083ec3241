/* A static function that is called once has no body of its own. */
//# flags: -O2
//# option: --replace price=new_price
//# finds: the compiler has copied it into total
//# finds: inlined-away.c:15 in total
#ifdef PATCH
int new_price(int pieces) { return pieces * 10; }
#else
#include "talk.h"

REPLACEABLE int total(int pieces);

static int price(int pieces) { return pieces * 10 + 1; }

int total(int pieces) { return 5 + price(pieces); }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", total(3));
    return 0;
}
#endif
