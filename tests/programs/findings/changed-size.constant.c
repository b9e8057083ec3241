/* A constant table of the file has one entry more in the patch; the rest of the program counts on the old size. */
//# flags: -O2
//# option: --replace pick=new_pick
//# finds: names has 12 bytes in changed-size.constant and 16 bytes in the patch
//# finds: used by new_pick
#include "talk.h"
#ifdef PATCH
static const int names[] = {1, 2, 3, 4};
int new_pick(int n) { return names[n % 4]; }
#else
static const int names[] = {1, 2, 3};
REPLACEABLE int pick(int n) { return names[n % 3]; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", pick(atoi(question)));
    return 0;
}
#endif
