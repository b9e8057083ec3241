/* Built from the whole file: the new function leads to the variable through a table of functions. */
//# flags: -O2
//# option: --replace next=next
//# finds: variable calls is defined by the patch and by forked-data.reached
//# finds: used by other
#include "talk.h"
REPLACEABLE int other(int n)
{
    static int calls;
    return ++calls + n;
}
static int (*const table[])(int) = {abs, other};
REPLACEABLE int next(int n) { return table[n % 2](n); }
#ifndef PATCH
int main(void)
{
    ready();
    while (asked())
        SAY("%d", next(atoi(question)));
    return 0;
}
#endif
