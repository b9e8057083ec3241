/* The patch wants to run when it is loaded. */
//# flags: -O2
//# patch-flags: -O2
//# option: --replace answer=fresh
//# finds: begin
#ifdef PATCH
static int ready;
static __attribute__((constructor)) void begin(void) { ready = 1; }
int fresh(int x);
int fresh(int x) { return x + ready; }
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
