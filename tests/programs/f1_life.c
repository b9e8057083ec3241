/* A patch's life: applied, reverted, applied again. */
//# option: --replace answer=new_answer --name life
//# ask: x => 1 | 2
#ifdef PATCH
int new_answer(void) { return 2; }
#else
#include "talk.h"
REPLACEABLE int answer(void) { return 1; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", answer());
    return 0;
}
#endif
