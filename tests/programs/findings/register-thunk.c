/* gcc keeps b, c and d in registers across the call, because `leaf` does not change them. */
//# flags: -O2
//# option: --replace leaf=new_leaf
//# finds: caller relies on
//# finds: reads rsi
#ifdef PATCH
int new_leaf(int x) { return x + 2; }
#else
#include "talk.h"

int sink;
__attribute__((noinline)) int leaf(int x) { return x + sink; }
__attribute__((noinline)) int caller(int a, int b, int c, int d) { return leaf(a) + b * 1000 + c + d; }

int main(int argc, char **argv) { return caller(argc, 2, 3, 4) == 0; }
#endif
