/* Nine arguments, three of them on the stack: the thunk passes them on. */
//# flags: -O2
//# option: --replace leaf=new_leaf
#ifdef PATCH
int new_leaf(int a, int b, int c, int d, int e, int f, int g, int h, int i) { return a + b + c + d + e + f + g + h + i; }
#else
#include "talk.h"

__attribute__((noinline)) int leaf(int a, int b, int c, int d, int e, int f, int g, int h, int i)
{
    return a - b - c - d - e - f - g - h - i;
}
__attribute__((noinline)) int caller(int a, int b) { return leaf(a, b, 3, 4, 5, 6, 7, 8, 9) * 3; }

int main(int argc, char **argv) { return caller(argc, 2) == 0; }
#endif
