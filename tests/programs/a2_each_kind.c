/* One function is replaced, however the program is built and linked. */
//# option: --replace answer=new_answer
//# ask: 3 => 5 | patched 32
//# ask: -1 => 1 | patched -8
#ifdef PATCH
#include <stdio.h>
int new_answer(int x)
{
    printf("patched ");
    return 10 * x + 2;
}
#else
#include "talk.h"
int answer(int x);

#ifndef MAIN
static volatile int two = 2;
REPLACEABLE int answer(int x) { return x + two; }
#endif

#ifndef LIBRARY
int main(void)
{
    ready();
    while (asked())
        SAY("%d", answer(atoi(question)));
    return 0;
}
#endif
#endif
