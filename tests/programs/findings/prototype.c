/* The new function takes one parameter more, and calls a function of the target by another prototype. */
//# flags: -O2
//# option: --replace scale=new_scale
//# finds: scale has another prototype in the patch (new_scale)
//# finds: takes (int) in the target, (int, int) in the patch
//# finds: half has another prototype in the patch
//# finds: parameter 1 is double (8 bytes) in the target, float (4 bytes) in the patch
//# finds: prototype.c:
#include "talk.h"
#ifdef PATCH
extern int half(float n);
int new_scale(int n, int by) { return n * by + half(3); }
#else
REPLACEABLE int half(double n) { return (int)(n / 2); }
REPLACEABLE int scale(int n) { return half(n); }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", scale(atoi(question)));
    return 0;
}
#endif
