/* A static variable of the file was copied along; others of the file still use the old one. */
//# flags: -O2
//# option: --replace add=new_add
//# finds: variable total is defined by the patch and by forked-data.static
//# finds: total at 0x
//# finds: used by new_add
//# finds: LP_BIND("forked-data.static.c", total)
#include "talk.h"
static int total = 5;
#ifdef PATCH
int new_add(int n) { return total += 2 * n; }
#else
REPLACEABLE int add(int n) { return total += n; }
REPLACEABLE int sum(void) { return total; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", add(atoi(question)), sum());
    return 0;
}
#endif
