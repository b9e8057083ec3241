/* A nested function whose address is taken is made on the stack. */
//# flags: -O2
//# option: --replace answer=fresh
//# finds: executable stack
#ifdef PATCH
__attribute__((noinline)) static int apply(int (*f)(int), int x) { return f(x); }
int fresh(int x);
int fresh(int x)
{
    int add(int y) { return x + y; }
    return apply(add, 3);
}
#else
#include "talk.h"

REPLACEABLE int answer(int x) { return x * 10 + 1; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", answer(1));
    return 0;
}
#endif
