/* Callers know nothing of a function that is marked so. */
//# flags: -O2
//# option: --replace leaf=new_leaf
#ifdef PATCH
int new_leaf(int x) { return x + 2; }
#else
#include "talk.h"

int sink;
REPLACEABLE int leaf(int x) { return x + sink; }
__attribute__((noinline)) int caller(int a, int b) { return leaf(a) * 3 + b; }

int main(int argc, char **argv) { return caller(argc, 2) == 0; }
#endif
