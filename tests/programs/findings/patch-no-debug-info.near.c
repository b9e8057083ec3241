/* Neither of the two was compiled with -g: that is how it is meant. */
//# flags: -O2 -g0
//# patch-flags: -g0
//# option: --replace scale=new_scale
#include "talk.h"
#ifdef PATCH
int new_scale(int n) { return n * 3; }
#else
REPLACEABLE int scale(int n) { return question[0] ? n * 2 : n * 7 + 1; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", scale(atoi(question)));
    return 0;
}
#endif
