/* The linker's optimisation copies a function of another file. */
//# flags: -O2 -flto
//# also: findings/inlined/other.c
//# option: --replace price=new_price
//# finds: inlined into functions that the patch does not replace: total
//# finds: inlined.lto.c:17 in total
#ifdef PATCH
int new_price(int pieces) { return pieces * 10; }
#else
#include "talk.h"

int price(int pieces);
extern int (*volatile kept)(int);
REPLACEABLE int total(int pieces);

/* The call that is copied. */
int total(int pieces) { return 5 + price(pieces); }

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", total(atoi(question)), kept(1));
    return 0;
}
#endif
