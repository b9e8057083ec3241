/* Two names of one function, as the author wants it. */
//# flags: -O2
//# finds: has other names: weight
//# option: --replace price=new_price
#ifdef PATCH
int new_price(int pieces) { return pieces * 10; }
#else
#include "talk.h"

REPLACEABLE int price(int pieces) { return pieces * 10 + 1; }
int weight(int pieces) __attribute__((alias("price")));

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", price(3), weight(3));
    return 0;
}
#endif
