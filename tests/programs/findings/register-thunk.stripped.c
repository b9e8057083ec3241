/* The caller has no symbol any more. */
//# flags: -O2 -s -rdynamic
//# option: --replace leaf=new_leaf
//# finds: leaf is entered through a thunk that preserves registers: a function at 0x
//# finds: reads rsi
#ifdef PATCH
int new_leaf(int x) { return x + 2; }
#else
#include "talk.h"

int sink;
__attribute__((noinline)) int leaf(int x) { return x + sink; }
static __attribute__((noinline)) int caller(int a, int b, int c, int d) { return leaf(a) + b * 1000 + c + d; }

int main(int argc, char **argv) { return caller(argc, argc + 1, argc + 2, argc + 3) == 0; }
#endif
