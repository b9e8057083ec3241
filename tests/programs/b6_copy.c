/* Data of libc that the executable has a copy of: the patch uses that copy. */
//# flags: -O2
//# option: --replace answer=new_answer
//# ask: x => 0 | 7 B6=here optarg text
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>
extern char **environ;

struct seen { void *out, *env, *arg; };

#ifdef PATCH
#include <string.h>
const char *new_answer(const struct seen *s)
{
    static char text[100];
    int same = (s->out == (void *)&stdout) | (s->env == (void *)&environ) << 1 | (s->arg == (void *)&optarg) << 2;
    const char *b6 = "no B6 in environ";
    for (char **e = environ; e && *e; e++)
        b6 = strncmp(*e, "B6=", 3) ? b6 : *e;
    snprintf(text, sizeof text, "%d %s optarg %s", same, b6, optarg);
    fflush(stdout);
    return text;
}
#else
#include "talk.h"
REPLACEABLE const char *answer(const struct seen *s) { return s ? "0" : ""; }

int main(void)
{
    struct seen s = {&stdout, &environ, &optarg};
    putenv("B6=here");
    optarg = "text";
    ready();
    while (asked())
        SAY("%s", answer(&s));
    return 0;
}
#endif
