/* A table that the patch imports with another size. */
//# flags: -O2
//# option: --replace pick=new_pick
//# finds: variable table: int[4] (16 bytes) in the target, int[8] (32 bytes) in the patch
//# finds: changed-size.c:
#include "talk.h"
#ifdef PATCH
extern int table[8];
int new_pick(int n) { return table[n % 8]; }
#else
int table[4] = {1, 2, 3, 4};
REPLACEABLE int pick(int n) { return table[n % 4]; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", pick(atoi(question)));
    return 0;
}
#endif
