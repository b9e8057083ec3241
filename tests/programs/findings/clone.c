/* A specialised copy for calls with a constant, beside the function itself. */
//# flags: -O3 -fno-inline
//# option: --replace price=new_price
//# finds: specialised copies, which the patch does not replace: price.constprop.0
//# finds: price.constprop.0 at 0x
//# finds: clone.c:33 called in total, at 0x
#ifdef PATCH
int new_price(int pieces, int each) { return pieces * each; }
#else
#include "talk.h"

volatile int calls;

int price(int pieces, int each);

int price(int pieces, int each)
{
    int sum = 1;

    for (int i = 0; i < pieces; i++) {
        calls++;
        sum += each > 5 ? each : each * 2 + calls % 3;
        sum ^= each << (i % 3);
    }
    return sum;
}

REPLACEABLE int total(int pieces);
int total(int pieces)
{
    int sum = 5;
    for (int i = 0; i < pieces; i++)
        sum += price(i, 10);
    return sum;
}

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", total(3), price(3, atoi(question)));
    return 0;
}
#endif
