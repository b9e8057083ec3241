/* As the case, with the option that has every call aligned. */
//# flags: -O2 -flive-patching=inline-clone
//# option: --replace leaf=new_leaf
#ifdef PATCH
int new_leaf(int x) { return x + 2; }
#else
#include "talk.h"

int sink;
__attribute__((noinline)) int leaf(int x) { return x + sink; }
__attribute__((noinline)) int caller(int a) { return leaf(a) * 3; }

int main(int argc, char **argv) { return caller(argc) == 0; }
#endif
