/* IFUNCs of a program that has all its code in itself. */
//# flags: -O2
//# patch-flags: -fno-builtin
//# option: --replace answer=new_answer
//# ask: hello => 5 | 5 hello ll 42 43
#ifdef PATCH
#include <stdio.h>
#include <string.h>
extern int unused(int), used(int);

const char *new_answer(const char *s)
{
    static char reply[100], copy[50], *end;
    memcpy(copy, s, strlen(s) + 1);
    end = strchr(copy, 'l');
    end[2] = 0;
    snprintf(reply, sizeof reply, "%zu %s %s %d %d", strlen(s), s, end, unused(2), used(3));
    return reply;
}
#else
#include "talk.h"
static int forty(int x) { return 40 + x; }
static int (*pick(void))(int) { return forty; }
int unused(int) __attribute__((ifunc("pick"), used)); /* no slot: nothing here calls it */
int used(int) __attribute__((ifunc("pick")));

REPLACEABLE const char *answer(const char *s)
{
    static char text[100];
    snprintf(text, sizeof text, "%zu", strlen(s));
    if (strchr(s, '!'))
        memcpy(text, s, used(strlen(s)) - 40);
    return text;
}

int main(void)
{
    ready();
    while (asked())
        SAY("%s", answer(question));
    return 0;
}
#endif
