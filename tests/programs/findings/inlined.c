/* A small function is copied into its callers; there is a body too, as it is global. */
//# flags: -O2
//# option: --replace price=new_price
//# finds: inlined into functions that the patch does not replace: total
//# finds: inlined.c:21 in total, at 0x
#ifdef PATCH
int new_price(int pieces) { return pieces * 10; }
#else
#include "talk.h"

int price(int pieces);
REPLACEABLE int total(int pieces);

int price(int pieces) { return pieces * 10 + 1; }

/* Its only copy. */
int total(int pieces)
{
    int sum = 5;

    return sum + price(pieces);
}

int main(void)
{
    ready();
    while (asked())
        SAY("%d", total(3));
    return 0;
}
#endif
