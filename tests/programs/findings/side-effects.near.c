/* A new function without effects either, and one that had some before. */
//# flags: -O2 -g
//# patch-flags: -O1 -g
//# option: --replace price=new_price --replace count=new_count
#include "talk.h"
#ifdef PATCH
extern int calls, rate;
int new_price(int pieces) { return pieces * rate + 1; }
int new_count(int pieces)
{
    calls += 2;
    return pieces;
}
#else
int calls, rate = 2;

__attribute__((noinline)) int price(int pieces);
int price(int pieces) { return pieces * rate; }

__attribute__((noinline)) int count(int pieces);
int count(int pieces)
{
    calls++;
    return pieces;
}

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", price(atoi(question)), count(1));
    return 0;
}
#endif
