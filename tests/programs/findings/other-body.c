/* The second file: another one includes the header. */
//# flags: -O2
//# also: findings/other-body/second.c
//# option: --replace other-body.c:price=new_price
//# finds: has another body
//# finds: price of second.c at 0x
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
