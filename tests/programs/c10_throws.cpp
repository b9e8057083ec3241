/* C10. An exception passes through the thunk of a function whose caller keeps values in registers. */
//# flags: -O2
//# also: c10_catches.cpp
//# option: --replace _Z4leafi=new_leaf
//# ask: 0 => 2006 | 2006
//# ask: 7 => 2011 | caught 7
#include <string>
#ifdef PATCH
extern "C" int new_leaf(int x)
{
    if (x > 5)
        throw std::to_string(x);
    return x ^ 1;
}
#else
int sink = 1;
__attribute__((noinline)) int leaf(int x) { return x ^ sink; }
int caller(int a, int b, int c, int d) { return leaf(a) + b * 1000 + c + d; }
#endif
