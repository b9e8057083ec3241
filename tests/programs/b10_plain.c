/* Plain C: needs no unwinder, and takes none unless there is one. */
//# flags: -O2
//# option: --replace answer=new_answer
//# ask: 3 => 4 | 5
#ifdef PATCH
int new_answer(int n) { return n + 2; }
#else
#include "talk.h"
REPLACEABLE int answer(int n)
{
    for (volatile int i = 0; i < 1; i++)
        n++;
    return n;
}

int main(void)
{
    ready();
    while (asked())
        SAY("%d", answer(atoi(question)));
    return 0;
}
#endif
