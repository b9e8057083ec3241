/* A static local was copied along with its function: the count would start again. */
//# flags: -O2
//# option: --replace next=new_next
//# finds: variable calls is defined by the patch and by forked-data
//# finds: used by new_next
//# finds: forked-data.c:
//# finds: --bind calls=forked-data.c:calls.
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
