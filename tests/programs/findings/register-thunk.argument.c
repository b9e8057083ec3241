/* Not read in the caller itself: `text` stays in rdi until the next function takes it. */
//# flags: -O2
//# option: --replace leaf=new_leaf
//# finds: caller relies on rdi
#ifdef PATCH
void new_leaf(void) {}
#else
#include "talk.h"

int sink;
__attribute__((noinline)) void leaf(void) { sink++; }
__attribute__((noinline)) int caller(const char *text)
{
    leaf();
    return puts(text);
}

int main(int argc, char **argv) { return caller(argv[0]) == 0; }
#endif
