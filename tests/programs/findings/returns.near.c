/* New functions that end the program too, or hand over to the old one; and one that returns, whose caller expects that. */
//# flags: -O2
//# option: --replace die=new_die --replace stop=new_stop --replace quit=new_quit
#include "talk.h"
#ifdef PATCH
#include "livepatch.h"
void stop(int n);
void new_die(const char *text)
{
    fprintf(stderr, "%s\n", text);
    _exit(3);
}
void new_stop(int n)
{
    puts("stops");
    LP_ORIGINAL(stop)(n);
    __builtin_unreachable();
}
void new_quit(const char *text) { puts(text); }
#else
__attribute__((noinline)) void die(const char *text)
{
    if (*text)
        puts(text);
    exit(3);
}

__attribute__((noinline)) void stop(int n)
{
    printf("stops with %d\n", n);
    abort();
}

REPLACEABLE void quit(const char *text);
void quit(const char *text)
{
    puts(text);
    exit(4);
}

__attribute__((noinline)) int check(int n);
int check(int n)
{
    if (n > 2000)
        stop(n);
    if (n > 1000)
        die("too much");
    return n / 2;
}

int main(void)
{
    ready();
    while (asked()) {
        if (*question == '-')
            quit(question);
        SAY("%d", check(atoi(question)));
    }
    return 0;
}
#endif
