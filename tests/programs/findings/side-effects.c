/* A function without effects: gcc has made one call of two. What replaces it counts its calls, and misses every other one. */
//# flags: -O2 -g
//# patch-flags: -g
//# option: --replace price=new_price
//# finds: price changes no memory, and new_price does or may do
//# finds: side-effects.c:31 called in order, at 0x
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
