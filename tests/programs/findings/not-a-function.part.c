/* The unlikely part of a function: its code is jumped into, with the stack as the function has it. */
//# flags: -O2
//# option: --replace count.cold=new_count
//# finds: it is a part of a function, which is jumped into
#include "talk.h"
#ifdef PATCH
int new_count(int n) { return n; }
#else
__attribute__((cold, noinline)) void unlikely(int n) { printf("%d\n", n); }
REPLACEABLE int count(int n);
int count(int n)
{
    if (n < 0) {
        unlikely(n);
        unlikely(n + 1);
        return -1;
    }
    return n / 2 + puts("counts");
}

int main(void)
{
    ready();
    while (asked())
        SAY("%d", count(atoi(question)));
    return 0;
}
#endif
