/* The functions that it is copied into are replaced too; and a copy of it inside itself is none. */
//# flags: -O2
//# option: --replace price=new_price
//# option: --replace total=new_total
//# ask: 3 => 36 | 35
#ifdef PATCH
int new_price(int pieces) { return pieces * 10; }
int new_total(int pieces) { return 5 + new_price(pieces); }
#else
#include "talk.h"

int price(int pieces);
REPLACEABLE int total(int pieces);

int price(int pieces) { return pieces > 100 ? price(pieces - 100) + 1000 : pieces * 10 + 1; }

int total(int pieces) { return 5 + price(pieces); }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", total(atoi(question)));
    return 0;
}
#endif
