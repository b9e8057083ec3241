/*
 * A library that is loaded twice: once as the program needs it, once into a namespace of its own, if the argument names its
 * file. The answer adds up both.
 */
//# flags: -O2
//# option: --replace answer=new_answer --target {lab}/libe6_dlmopen.so
#ifdef PATCH
int new_answer(void) { return 2; }
#elif defined LIBRARY
__attribute__((noipa)) int answer(void) { return 1; }
#else
#include "talk.h"
#include <dlfcn.h>

int answer(void);

int main(int argc, char **argv)
{
    int (*other)(void) = 0;
    if (argc > 1) {
        void *copy = dlmopen(LM_ID_NEWLM, argv[1], RTLD_NOW);
        other = copy ? (int (*)(void))dlsym(copy, "answer") : 0;
        if (!other || other == answer) {
            SAY("no copy: %s", dlerror());
            return 1;
        }
    }
    ready();
    while (asked())
        SAY("%d", 10 * (other ? other() : 0) + answer());
    return 0;
}
#endif
