/* Variables of the patch's own: new names, names of locals of other functions, constants with other values. */
//# flags: -O2
//# option: --replace next=new_next
#include "talk.h"
#ifdef PATCH
static const int limits[3] = {7, 8, 9};
static int seen;
int new_next(int n)
{
    static int calls, hits;
    extern int total;
    seen += n;
    total += ++hits;
    return ++calls * 10 + limits[n % 3] + seen + total;
}
#else
static const int limits[3] = {1, 2, 3};
int total = 1;
REPLACEABLE int next(int n) { return limits[n % 3] + total; }

REPLACEABLE int other(int n)
{
    static int calls;
    return ++calls + n;
}

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", next(atoi(question)), other(1));
    return 0;
}
#endif
