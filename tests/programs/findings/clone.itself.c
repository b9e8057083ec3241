/* Only a specialised copy is there, and it is named: nobody passes the second parameter. */
//# flags: -O2
//# option: --replace price.constprop.0=new_price
//# finds: price.constprop.0 is a specialised copy of price
#ifdef PATCH
int new_price(int pieces, int each) { return pieces * each; }
#else
#include "talk.h"

static __attribute__((noinline)) int price(int pieces, int each)
{
    int sum = 1;

    for (int i = 0; i < each; i++)
        sum += puts("x") + pieces;
    return sum;
}

int main(void)
{
    ready();
    while (asked())
        SAY("%d", price(atoi(question), 4) + price(question[0], 4));
    return 0;
}
#endif
