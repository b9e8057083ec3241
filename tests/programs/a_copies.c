/* A function that the compiler copies into one caller, while another one calls it. */
//# flags: -O2
#ifdef PATCH
int new_price(int pieces) { return pieces * 1000; }
int new_total(int pieces) { return 7 + new_price(pieces); }
#else
#include "talk.h"

int price(int pieces);
REPLACEABLE int total(int pieces);
static int (*volatile by_pointer)(int) = price;

int price(int pieces) { return pieces * 10 + 1; }

int total(int pieces) { return 5 + price(pieces); }

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", by_pointer(3), total(3));
    return 0;
}
#endif
