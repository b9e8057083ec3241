/*
 * `helper` is defined by a library of the program and, if that is preloaded, by another one. The program calls it when
 * it is asked to `warm` up. `spare` and `unused` are called by nobody but the patch. `open` opens a library as a plugin.
 */
//# option: --replace answer=new_answer
#ifdef PATCH
extern int helper(int x);
#ifdef SPARE
extern int spare(int x), unused(int x);
int new_answer(int x) { return spare(unused(x)); }
#else
int new_answer(int x) { return 1000 + helper(x); }
#endif
#elif defined LIBRARY
#ifdef PRELOADED
int helper(int x) { return 7 * x; }
#elif defined PLUGIN
int plugin_helper(int x) { return x; }
#else
int helper(int x) { return x; }
int spare(int x) { return 2000 + x; }
int unused(int x) { return x; }
#endif
#else
#include "talk.h"
#include <dlfcn.h>

int helper(int x);

REPLACEABLE int answer(int x) { return -x; }

int main(int argc, char **argv)
{
    ready();
    while (asked()) {
        if (!strcmp(question, "warm"))
            SAY("%d", helper(1));
        else if (!strcmp(question, "open"))
            SAY("%d", dlopen(argv[argc - 1], RTLD_NOW) != NULL);
        else
            SAY("%d", answer(atoi(question)));
    }
    return 0;
}
#endif
