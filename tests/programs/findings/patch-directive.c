/* LP_REPLACE before two functions for one old one. */
//# flags: -O2
//# finds: .lp.replace.answer
//# finds: 2 functions
#ifdef PATCH
#include "livepatch.h"
LP_REPLACE(answer) int fresh(int x) { return x; }
LP_REPLACE(answer) int stale(int x) { return x + 2; }
#else
#include "talk.h"

REPLACEABLE int answer(int x) { return x * 10 + 1; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", answer(1));
    return 0;
}
#endif
