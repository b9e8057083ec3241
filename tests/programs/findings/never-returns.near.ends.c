/* Functions that end the program: what is unlikely stands behind the last call, and jumps back from there. And a loop that longjmp leaves. */
//# flags: -O2 -fno-reorder-blocks-and-partition
//# option: --replace die=new_die --replace fail=new_fail --replace search=new_search
#include "talk.h"
#include <setjmp.h>
#ifdef PATCH
#include <unistd.h>
void new_die(const char *text)
{
    puts(text);
    _exit(3);
}
void new_fail(const char *text, int n)
{
    printf("%s %d\n", text, n);
    _exit(4);
}
extern jmp_buf found;
void new_search(const char *text)
{
    puts(text);
    longjmp(found, 2);
}
#else
__attribute__((noinline)) void die(const char *text)
{
    if (__builtin_expect(!text, 0))
        puts("no text");
    if (__builtin_expect(!stdout, 0))
        puts("no output");
    puts(text);
    exit(3);
}

__attribute__((noinline)) void fail(const char *text, int n)
{
    if (__builtin_expect(!text, 0))
        puts("no text");
    if (__builtin_expect(n == 7, 0))
        puts("seven");
    printf("%s %d\n", text, n);
    abort();
}

jmp_buf found;
__attribute__((noinline)) void search(const char *text)
{
    for (;; text++)
        if (puts(text) < 3)
            longjmp(found, 1);
}

int main(void)
{
    ready();
    while (asked()) {
        if (question[0] == '-')
            die(question);
        if (question[0] == '+')
            fail(question, atoi(question));
        if (question[0] == '*' && !setjmp(found))
            search(question);
        SAY("%s", question);
    }
    return 0;
}
#endif
