/* Two files of one name, each with a static function and a static variable of one name. */
#ifdef PATCH
#include "livepatch.h"
int helper(int x);
extern int level;
LP_BIND("two/part.c", level);

LP_REPLACE_IN("one/part.c", helper) int new_helper(int x) { return LP_ORIGINAL(helper)(x) + 1000 * level; }
#else
#include "talk.h"
int one(int x);
int two(int x);

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", one(atoi(question)), two(atoi(question)));
    return 0;
}
#endif
