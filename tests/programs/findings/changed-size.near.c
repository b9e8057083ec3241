/* Other values of constants, an array whose size is not said, a longer text inside of the replaced function. */
//# flags: -O2
//# option: --replace pick=new_pick
#include "talk.h"
#ifdef PATCH
static const int names[3] = {4, 5, 6};
extern int table[];
int new_pick(int n)
{
    static const char text[] = "a longer text";
    return names[n % 3] + table[n % 4] + text[n % sizeof text];
}
#else
static const int names[3] = {1, 2, 3};
int table[4] = {1, 2, 3, 4};
REPLACEABLE int pick(int n)
{
    static const char text[] = "text";
    return names[n % 3] + table[n % 4] + text[n % sizeof text];
}

int main(void)
{
    ready();
    while (asked())
        SAY("%d", pick(atoi(question)));
    return 0;
}
#endif
