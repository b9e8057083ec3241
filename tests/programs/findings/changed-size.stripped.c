/* The target has no debug information: its symbol tells the size of the variable. */
//# flags: -O2 -g0
//# option: --replace pick=new_pick
//# finds: variable level: 4 bytes in the target, long int (8 bytes) in the patch
#include "talk.h"
#ifdef PATCH
extern long level;
long new_pick(long n) { return level + n; }
#else
int level = 4;
REPLACEABLE int pick(int n) { return level + n; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", pick(atoi(question)));
    return 0;
}
#endif
