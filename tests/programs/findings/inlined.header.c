/* A function of a header has a body in this file, and is copied in another one. */
//# flags: -O2
//# also: findings/inlined/third.c
//# option: --replace price=new_price
//# finds: inlined into functions that the patch does not replace: second
//# finds: third.c:5 in second
#ifdef PATCH
int new_price(int pieces) { return pieces * 10; }
#else
#include "talk.h"
#include "findings/inlined/price.h"
int second(int pieces);

static int (*volatile kept)(int) = price;

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", kept(1), second(2));
    return 0;
}
#endif
