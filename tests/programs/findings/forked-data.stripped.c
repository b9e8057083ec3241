/* Without any debug information the code of the old function shows that it uses the variable. */
//# flags: -O2 -g0
//# patch-flags: -g0
//# option: --replace next=new_next
//# finds: variable calls is defined by the patch and by forked-data.stripped
#include "talk.h"
#ifdef PATCH
int new_next(int n)
{
    static int calls;
    return ++calls * 10 + n;
}
#else
REPLACEABLE int next(int n)
{
    static int calls;
    return ++calls + n;
}

int main(void)
{
    ready();
    while (asked())
        SAY("%d", next(atoi(question)));
    return 0;
}
#endif
