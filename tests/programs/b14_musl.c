/* A program on musl: its libc is its dynamic linker. */
//# flags: -O2
//# option: --replace answer=new_answer
//# ask: 5 => 15 5 | 1005 7 five
#ifdef PATCH
int printf(const char *, ...);
int snprintf(char *, unsigned long, const char *, ...);
void *malloc(unsigned long);
void free(void *);
unsigned long strlen(const char *);
extern char **environ;
extern int counter(void);

const char *new_answer(int x)
{
    static char reply[64];
    char *copy = malloc(64);
    snprintf(copy, 64, "%d", x + 1000);
    snprintf(reply, sizeof reply, "%s %d %s", copy, counter() + (environ && environ[0] ? 1 : 100), "five");
    free(copy);
    return reply;
}
#else
#include "talk.h"

static int count = 4;
static REPLACEABLE int counter(void) { return 2 + count; }

REPLACEABLE const char *answer(int x)
{
    static char text[64];
    char *copy = malloc(64);
    snprintf(copy, 64, "%d %d", x + 10, x);
    strcpy(text, copy);
    free(copy);
    return text;
}

int main(void)
{
    ready();
    while (asked())
        SAY("%s", answer(atoi(question) + 0 * counter()));
    return 0;
}
#endif
