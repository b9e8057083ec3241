/* Arguments in registers, on the stack, by value and variadic arrive unchanged in the new function. */
//# flags: -O2
//# option: --replace mix=new_mix --replace list=new_list --allow forked-data
//# ask: mix => old 1 2 3 4 5 6 7 8 9 10 | new 1 2 3 4 5 6 7 8 9 10
//# ask: mix 2 => old 0.5 1.5 2.5 3.5 4.5 5.5 6.5 7.5 8.5 9.5 | new 0.5 1.5 2.5 3.5 4.5 5.5 6.5 7.5 8.5 9.5
//# ask: mix 3 => old 1.25 -7 11 12 13 14 15 | new 1.25 -7 11 12 13 14 15
//# ask: list => old 1 2.5 3 4.5 5 6.5 7 8.5 9 10.5 11 12.5 | new 1 2.5 3 4.5 5 6.5 7 8.5 9 10.5 11 12.5
#include <stdarg.h>
#include <stdio.h>

struct pair { double x; long n; };  /* passed in xmm and a general register */
struct big { long v[5]; };          /* passed on the stack */

static char text[200];

#define MIX(name, tag)                                                                                             \
    const char *name(int part, int a, int b, int c, int d, int e, int f, int g, int h, int i, int j, double k,     \
                     double l, double m, double n, double o, double p, double q, double r, double s, double t,     \
                     struct pair u, struct big v)                                                                  \
    {                                                                                                              \
        if (part == 1)                                                                                             \
            snprintf(text, sizeof text, tag " %d %d %d %d %d %d %d %d %d %d", a, b, c, d, e, f, g, h, i, j);       \
        if (part == 2)                                                                                             \
            snprintf(text, sizeof text, tag " %g %g %g %g %g %g %g %g %g %g", k, l, m, n, o, p, q, r, s, t);       \
        if (part == 3)                                                                                             \
            snprintf(text, sizeof text, tag " %g %ld %ld %ld %ld %ld %ld", u.x, u.n, v.v[0], v.v[1], v.v[2],       \
                     v.v[3], v.v[4]);                                                                              \
        return text;                                                                                               \
    }

#define LIST(name, tag)                                                                                            \
    const char *name(int pairs, ...)                                                                               \
    {                                                                                                              \
        va_list args;                                                                                              \
        va_start(args, pairs);                                                                                     \
        int len = snprintf(text, sizeof text, tag);                                                                \
        while (pairs-- > 0) {                                                                                      \
            long n = va_arg(args, long);                                                                           \
            len += snprintf(text + len, sizeof text - len, " %ld %g", n, va_arg(args, double));                    \
        }                                                                                                          \
        va_end(args);                                                                                              \
        return text;                                                                                               \
    }

#ifdef PATCH
MIX(new_mix, "new")
LIST(new_list, "new")
#else
#include "talk.h"
REPLACEABLE MIX(mix, "old")
REPLACEABLE LIST(list, "old")

static const char *call_mix(int part)
{
    return mix(part, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, .5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5, 9.5,
               (struct pair){1.25, -7}, (struct big){{11, 12, 13, 14, 15}});
}

int main(void)
{
    ready();
    while (asked()) {
        if (!strcmp(question, "list"))
            SAY("%s", list(6, 1l, 2.5, 3l, 4.5, 5l, 6.5, 7l, 8.5, 9l, 10.5, 11l, 12.5));
        else
            SAY("%s", call_mix(question[3] ? question[4] - '0' : 1));
    }
    return 0;
}
#endif
