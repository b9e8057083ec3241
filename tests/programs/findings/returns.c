/* A function that ends the program: its caller was compiled with that knowledge, and has no code behind the call. */
//# flags: -O2
//# option: --replace die=new_die
//# finds: die never returns, and new_die does
//# finds: returns.c:26 called in check, at 0x
//# finds: noreturn
#include "talk.h"
#ifdef PATCH
void new_die(const char *text) { fprintf(stderr, "%s\n", text); }
#else
__attribute__((noinline)) void die(const char *text)
{
    if (*text)
        puts(text);
    exit(3);
}

__attribute__((noinline)) int half(int n) { return n / 2; }

__attribute__((noinline)) int check(int n);
int check(int n)
{
    int m = half(n);

    if (m > 1000)
        die("too much");
    return m;
}

int main(void)
{
    ready();
    while (asked())
        SAY("%d", check(atoi(question)));
    return 0;
}
#endif
