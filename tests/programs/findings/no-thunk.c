/* A variable number of arguments, on the stack too: nobody can say how many there are to pass on. */
//# flags: -O2
//# option: --replace leaf=new_leaf
//# finds: how many arguments it takes on the stack
//# finds: in main, at 0x
#ifdef PATCH
#include <stdarg.h>
int new_leaf(int n, ...)
{
    va_list all;
    int sum = 0;
    va_start(all, n);
    while (n--)
        sum += va_arg(all, int);
    va_end(all);
    return sum;
}
#else
#include "talk.h"
#include <stdarg.h>

__attribute__((noinline)) int leaf(int n, ...)
{
    va_list all;
    int sum = 1;
    va_start(all, n);
    while (n--)
        sum += va_arg(all, int);
    va_end(all);
    return sum;
}
__attribute__((noinline)) int caller(int a, int b) { return leaf(8, a, b, 3, 4, 5, 6, 7, 8) * 3; }

int main(int argc, char **argv) { return caller(argc, 2) == 0; }
#endif
