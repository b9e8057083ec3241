/* As the case, compiled so that every call may change what the ABI allows. */
//# flags: -O2 -fno-ipa-ra
//# option: --replace leaf=new_leaf
#ifdef PATCH
int new_leaf(int x) { return x + 2; }
#else
#include "talk.h"

int sink;
__attribute__((noinline)) int leaf(int x) { return x + sink; }
__attribute__((noinline)) int caller(int a, int b, int c, int d) { return leaf(a) + b * 1000 + c + d; }

int main(int argc, char **argv) { return caller(argc, 2, 3, 4) == 0; }
#endif
