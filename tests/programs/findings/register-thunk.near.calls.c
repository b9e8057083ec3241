/* `leaf` calls a function of a library: gcc knows nothing of what that changes. */
//# flags: -O2
//# option: --replace leaf=new_leaf
#ifdef PATCH
int new_leaf(int x) { return x + 2; }
#else
#include "talk.h"

__attribute__((noinline)) int leaf(int x) { return x + rand(); }
__attribute__((noinline)) int caller(int a, int b, int c, int d) { return leaf(a) + b * 1000 + c + d; }

int main(int argc, char **argv) { return caller(argc, 2, 3, 4) == 0; }
#endif
