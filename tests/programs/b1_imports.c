/* The patch uses functions and data of libc that the target itself does not import. */
//# flags: -O2
//# option: --replace answer=new_answer
//# ask: 5 => 5 | 117
#ifdef PATCH
#include <stdio.h>
#include <stdlib.h>
#include <wchar.h>
/* 5 + 100 + 2 + 10 */
int new_answer(int x) { return x + (int)strtoul("100", 0, 10) + fileno(stderr) + (int)wcslen(L"ten digits"); }
#else
#include "talk.h"
REPLACEABLE int answer(int x) { return x % 1000; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", answer(atoi(question)));
    return 0;
}
#endif
