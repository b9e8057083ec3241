/* The same, not copied. */
//# flags: -O2 -fno-inline
//# option: --replace price=new_price
#ifdef PATCH
int new_price(int pieces) { return pieces * 10; }
#else
#include "talk.h"

REPLACEABLE int total(int pieces);

static __attribute__((noclone)) int price(int pieces) { return pieces * 10 + 1; }

int total(int pieces) { return 5 + price(pieces); }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", total(3));
    return 0;
}
#endif
