/* The patch was built from the whole file, but the new function does not lead to what uses the variables. */
//# flags: -O2
//# option: --replace next=next
#include "talk.h"
static int total = 5;
int *where = &total;
REPLACEABLE int other(int n)
{
    static int calls;
    return ++calls + (total += n) + *where;
}
#ifdef PATCH
REPLACEABLE int next(int n) { return n > 5 ? n * 3 : 1; }
#else
REPLACEABLE int next(int n) { return n > 5 ? n * 2 : 1; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", next(atoi(question)), other(1));
    return 0;
}
#endif
