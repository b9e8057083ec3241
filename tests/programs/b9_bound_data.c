/* Variables that the patch defines and the target has: two are bound to the target's, one is a copy that was accepted. */
//# flags: -O2
//# option: --replace set=new_set --allow forked-data
//# option: --bind total=total --bind calls=b9_bound_data.c:calls.0
//# ask: 1 => 1 1 1 | 10 2 10
//# ask: 2 => 2 2 2 | 20 2 20
#include "talk.h"
int total = 100;
static int kept;
#ifdef PATCH
extern int calls;
int *new_set(int n)
{
    kept += n; /* nobody else sees it */
    total = 10 * n + (kept < 0);
    calls = 10 * n;
    return &calls;
}
#else
REPLACEABLE int *set(int n)
{
    static int calls;
    total = kept = calls = n;
    return &calls;
}

int main(void)
{
    int *calls = 0;
    ready();
    while (asked()) {
        int *at = set(atoi(question));
        calls = calls ? calls : at;
        SAY("%d %d %d", total, kept, *calls);
    }
    return 0;
}
#endif
