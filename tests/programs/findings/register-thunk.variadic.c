/* `number` stays in rsi, for a function that stores what is there without looking at it. */
//# flags: -O2
//# option: --replace leaf=new_leaf
//# finds: caller relies on rsi
#ifdef PATCH
void new_leaf(void) {}
#else
#include "talk.h"

int sink;
__attribute__((noinline)) void leaf(void) { sink++; }
__attribute__((noinline)) int caller(const char *text, int number)
{
    leaf();
    return printf("%d\n", number);
}

int main(int argc, char **argv) { return caller(argv[0], argc) == 0; }
#endif
