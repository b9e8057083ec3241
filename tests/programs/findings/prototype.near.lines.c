/* Debug information of lines alone: it says of no function what it takes and returns. */
//# flags: -O2 -g1
//# option: --replace scale=new_scale
#include "talk.h"
#ifdef PATCH
extern long half(long n);
double new_scale(int n, double by) { return (double)half(n) * by; }
#else
REPLACEABLE long half(long n) { return n / 2; }
REPLACEABLE double scale(int n, double by) { return (double)half(n) + by; }

int main(void)
{
    ready();
    while (asked())
        SAY("%g", scale(atoi(question), 1.5));
    return 0;
}
#endif
