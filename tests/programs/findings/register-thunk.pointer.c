/* `number` is put in rdi before the call, for a function that no address in the code names. */
//# flags: -O2
//# option: --replace leaf=new_leaf
//# finds: caller relies on r
#ifdef PATCH
void new_leaf(void) {}
#else
#include "talk.h"

int sink;
int (*volatile output)(int) = putchar;
__attribute__((noinline)) void leaf(void) { sink++; }
__attribute__((noinline)) int caller(int number)
{
    leaf();
    return output(number);
}

int main(int argc, char **argv) { return caller(argc) == 0; }
#endif
