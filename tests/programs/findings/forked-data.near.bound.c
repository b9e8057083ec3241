/* The patch defines a global variable of the target, and says that the target's is meant. */
//# flags: -O2
//# option: --replace add=new_add --bind total=total
#include "talk.h"
int total = 5;
#ifdef PATCH
int new_add(int n) { return total += 2 * n; }
#else
REPLACEABLE int add(int n) { return total += n; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", add(atoi(question)));
    return 0;
}
#endif
