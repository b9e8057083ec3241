/* The result is wider than what the callers take, and a pointer leads to another type. */
//# flags: -O2
//# option: --replace scale=new_scale
//# finds: returns int (4 bytes) in the target, void in the patch
//# finds: parameter 1 is int * (8 bytes) in the target, long int * (8 bytes) in the patch
#include "talk.h"
#ifdef PATCH
void new_scale(long *n) { ++*n; }
#else
REPLACEABLE int scale(int *n) { return ++*n; }

int main(void)
{
    int n = 0;
    ready();
    while (asked())
        SAY("%d", scale(&n));
    return 0;
}
#endif
