/* One function, named twice. */
//# flags: -O2
//# option: --replace price=new_price --replace price=other_price
//# finds: price is named twice, to be replaced by new_price and by other_price
#ifdef PATCH
int new_price(int pieces) { return pieces * 10; }
int other_price(int pieces) { return pieces; }
#else
#include "talk.h"
REPLACEABLE int price(int pieces) { return pieces * 10 + 1; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", price(atoi(question)));
    return 0;
}
#endif
