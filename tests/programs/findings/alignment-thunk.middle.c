/* `middle` keeps the alignment that it is called with, which is none. */
//# flags: -O2 -fno-ipa-ra
//# option: --replace leaf=new_leaf
//# finds: caller calls it with a stack that is not 16-aligned
#ifdef PATCH
int new_leaf(int x) { return x + 2; }
#else
#include "talk.h"

int sink;
__attribute__((noinline)) int leaf(int x) { return x + sink; }
__attribute__((noinline)) int middle(int x) { return leaf(x) + x; }
__attribute__((noinline)) int caller(int a) { return middle(a) * 3; }

int main(int argc, char **argv) { return caller(argc) == 0; }
#endif
