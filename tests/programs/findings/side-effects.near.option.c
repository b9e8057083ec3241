/* Compiled so that callers know nothing of the inside of functions. */
//# flags: -O2 -g -flive-patching=inline-clone
//# patch-flags: -g
//# option: --replace price=new_price
#include "talk.h"
#ifdef PATCH
extern int calls;
int new_price(int pieces)
{
    calls++;
    return pieces * 3;
}
#else
int calls, rate = 2;

static int __attribute__((noinline)) discount(int pieces) { return pieces > 100 ? pieces / 10 : 0; }

__attribute__((noinline)) int price(int pieces);
int price(int pieces)
{
    int small[4] = {pieces, rate, pieces * rate, pieces + rate};

    return small[pieces & 3] + small[2] - discount(pieces);
}

__attribute__((noinline)) int order(int pieces);
int order(int pieces)
{
    return price(pieces) + price(pieces);
}

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", order(atoi(question)), calls);
    return 0;
}
#endif
