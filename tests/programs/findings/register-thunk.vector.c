/* The same with `double` in vector registers. */
//# flags: -O3
//# option: --replace leaf=new_leaf
//# finds: in caller, at 0x
//# finds: reads xmm
#ifdef PATCH
double new_leaf(double x) { return x + 2; }
#else
#include "talk.h"

int sink;
__attribute__((noinline)) double leaf(double x) { return x + sink; }
__attribute__((noinline)) double caller(double a, double b, double c) { return leaf(a) + b * 1000 + c; }

int main(int argc, char **argv) { return caller(argc, 2, 3) == 0; }
#endif
