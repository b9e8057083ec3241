/* The other file has a function of the same name, but another one. */
//# flags: -O2
//# also: findings/other-body/third.c
//# option: --replace other-body.near.c:price=new_price
#ifdef PATCH
int new_price(int pieces) { return pieces * 10; }
#else
#include "talk.h"
#include "findings/other-body/price.h"
int second(int pieces);

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", price(3), second(4));
    return 0;
}
#endif
