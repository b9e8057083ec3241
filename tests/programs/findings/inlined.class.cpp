/* A member function of C++. */
//# flags: -O2
//# option: --replace Till::price=new_price
//# finds: inlined into functions that the patch does not replace
//# finds: inlined.class.cpp:24 in
#ifdef PATCH
extern "C" int new_price(void *till, int pieces) { return till ? pieces * 10 : 0; }
#else
#include "talk.h"

struct Till {
    int tax;
    int price(int pieces);
};

int Till::price(int pieces) { return pieces * 10 + tax; }

int (Till::*volatile kept)(int) = &Till::price;

/* The call that is copied. */
REPLACEABLE int total(int pieces)
{
    Till till = {1};
    return 5 + till.price(pieces);
}

int main(void)
{
    ready();
    while (asked())
        SAY("%d", total(atoi(question)));
    return 0;
}
#endif
