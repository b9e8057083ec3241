/* A thread-local variable, whose value is the same number as the address of an array that the linker has dropped. */
//# flags: -O2 -ffunction-sections -fdata-sections -Wl,--gc-sections
//# option: --replace count=new_count
#include "talk.h"
#ifdef PATCH
extern __thread int depth;
int new_count(int n) { return depth += 2 * n; }
#else
const char *dropped[] = {"a", "b"};
__thread int depth;
REPLACEABLE int count(int n) { return depth += n; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", count(atoi(question)));
    return 0;
}
#endif
