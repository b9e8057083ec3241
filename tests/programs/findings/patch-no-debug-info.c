/* The patch was compiled without -g. */
//# flags: -O2
//# patch-flags: -g0
//# option: --replace scale=new_scale
//# finds: patch-no-debug-info has debug information and the patch has none
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
