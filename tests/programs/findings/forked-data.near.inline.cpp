/* Inline variables and static locals of inline functions are one per program: the patch uses the target's. */
//# flags: -O2 -rdynamic
//# option: --replace _Z4nexti=new_next
#include "talk.h"
inline int total = 3;
inline int count()
{
    static int calls = rand();
    return ++calls;
}
#ifdef PATCH
extern "C" int new_next(int n) { return 10 * n + count() + total++; }
#else
REPLACEABLE int next(int n) { return n + count() + total++; }
int main()
{
    ready();
    while (asked())
        SAY("%d", next(atoi(question)));
    return 0;
}
#endif
