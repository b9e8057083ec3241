/* As rustc calls what does not return: a trap stands behind the call. */
//# flags: -O2
//# option: --replace die=new_die
//# finds: die never returns, and new_die does
#include "talk.h"
#ifdef PATCH
void new_die(const char *text) { fprintf(stderr, "%s\n", text); }
#else
REPLACEABLE void die(const char *text);
void die(const char *text)
{
    puts(text);
    exit(3);
}

int main(void)
{
    ready();
    while (asked()) {
        if (*question == '-') {
            die(question);
            __builtin_trap();
        }
        SAY("%s", question);
    }
    return 0;
}
#endif
