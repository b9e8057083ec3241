/* Two files with a static function of the same name: the named one is replaced, only that one. */
//# flags: -O2
//# also: a6_other.c
//# refused: helper
//# refused: a6_statics.c
//# refused: a6_other.c
#ifdef PATCH
int new_helper(int x) { return x + 900; }
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
