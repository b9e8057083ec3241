/* gcc calls `leaf` without aligning the stack: `leaf` calls nothing. */
//# flags: -O2 -fno-ipa-ra
//# option: --replace leaf=new_leaf
//# finds: caller calls it with a stack that is not 16-aligned
//# finds: call
#ifdef PATCH
int new_leaf(int x) { return x + 2; }
#else
#include "talk.h"

int sink;
__attribute__((noinline)) int leaf(int x) { return x + sink; }
__attribute__((noinline)) int caller(int a) { return leaf(a) * 3; }

int main(int argc, char **argv) { return caller(argc) == 0; }
#endif
