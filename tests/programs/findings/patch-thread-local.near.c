/* A thread-local variable of the program. */
//# flags: -O2
//# option: --replace answer=fresh
#ifdef PATCH
extern __thread int depth;
int fresh(int x);
int fresh(int x) { return x + ++depth; }
#else
#include "talk.h"

__thread int depth = 1;
REPLACEABLE int answer(int x) { return x + depth; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", answer(1));
    return 0;
}
#endif
