/* Two functions of the source with the same code, which the linker has kept once. */
//# flags: -O1 -ffunction-sections -fuse-ld=gold -Wl,--icf=all
//# option: --replace price=new_price
//# finds: is also the code of weight
//# finds: weight of folded.c:13
#ifdef PATCH
int new_price(int pieces) { return pieces * 10; }
#else
#include "talk.h"

REPLACEABLE int price(int pieces) { return pieces * 10 + 1; }

REPLACEABLE int weight(int pieces) { return pieces * 10 + 1; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", price(3), weight(3));
    return 0;
}
#endif
