/* A static local of a static function, with a guard, as C++ has it. */
//# flags: -O2
//# option: --replace _ZL4nexti=new_next
//# finds: variable calls is defined by the patch and by forked-data.class
//# finds: _ZZL4nextiE5calls
#include "talk.h"
static int first();
__attribute__((noipa)) static int next(int n)
{
    static int calls = first();
    return ++calls + n;
}
#ifdef PATCH
static int first() { return rand(); }
extern "C" int new_next(int n) { return 10 * next(n); }
#else
static int first() { return rand(); }
int main()
{
    ready();
    while (asked())
        SAY("%d", next(atoi(question)));
    return 0;
}
#endif
