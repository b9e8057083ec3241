/* Two static functions of one name are replaced, and the new code of each calls its own old code. */
//# flags: -O2
//# also: a6_other.c
//# ask: x => 101 1201 | 1101 3201
#ifdef PATCH
#include "livepatch.h"

/* As both files declare it; the symbol itself is not used. */
int helper(int x);

LP_REPLACE_IN("a6_originals.c", helper) int new_helper(int x)
{
    return 1000 + LP_ORIGINAL_IN("a6_originals.c", helper)(x);
}

LP_REPLACE_IN("a6_other.c", helper) int new_other(int x) { return 2000 + LP_ORIGINAL_IN("a6_other.c", helper)(x); }
#ifdef AMBIGUOUS
int ambiguous(int x) { return LP_ORIGINAL(helper)(x); }
#endif
#ifdef UNKNOWN
int unknown(int x) { return LP_ORIGINAL_IN("b-c.c", helper)(x); }
#endif
#else
#include "talk.h"
int other(int x);

static REPLACEABLE int helper(int x) { return x + 100; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", helper(1), other(1));
    return 0;
}
#endif
