/* It is copied into a function that is itself copied into another one, which is the one to replace. */
//# flags: -O2
//# option: --replace price=new_price
//# finds: inlined into functions that the patch does not replace: total
//# finds: inlined.nested.c:17 in total, at 0x
#ifdef PATCH
int new_price(int pieces) { return pieces * 10; }
#else
#include "talk.h"

REPLACEABLE int total(int pieces);

int price(int pieces);
int price(int pieces) { return pieces * 10 + 1; }

/* No body of this is left. */
static int with_tax(int pieces) { return price(pieces) * 119 / 100; }

int total(int pieces) { return 5 + with_tax(pieces); }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", total(atoi(question)));
    return 0;
}
#endif
