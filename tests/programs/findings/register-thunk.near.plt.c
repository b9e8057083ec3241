/* In a library, `leaf` is called through the PLT: another module may define it. */
//# flags: -O2
//# option: --replace libregister-thunk.near.plt.so:leaf=new_leaf
#ifdef PATCH
int new_leaf(int x) { return x + 2; }
#else
int caller(int a, int b, int c, int d);
#ifdef LIBRARY
int sink;
__attribute__((noinline)) int leaf(int x) { return x + sink; }
int caller(int a, int b, int c, int d) { return leaf(a) + b * 1000 + c + d; }
#else
#include "talk.h"
int main(int argc, char **argv) { return caller(argc, 2, 3, 4) == 0; }
#endif
#endif
