/*
 * The patch allocates what the program frees and the other way round. One allocator for both, or it ends badly.
 * `warm` makes the program call them once, so that its lazy slots are bound.
 */
//# flags: -O2
//# option: --replace renewed=new_renewed
#ifdef PATCH
#include <stdlib.h>
extern void *seen[2];
char *new_renewed(char *old)
{
    char *fresh = malloc(100);
    free(old);
    free(malloc(5000));
    seen[0] = (void *)malloc;
    seen[1] = (void *)free;
    fresh[0] = 'n';
    fresh[1] = 0;
    return fresh;
}
#else
#include "talk.h"
#include <dlfcn.h>

void *seen[2];

REPLACEABLE char *renewed(char *old)
{
    char *fresh = strdup("o");
    free(old);
    seen[0] = dlsym(RTLD_DEFAULT, "malloc");
    seen[1] = dlsym(RTLD_DEFAULT, "free");
    return fresh;
}

static int same(void) { return seen[0] == dlsym(RTLD_DEFAULT, "malloc") && seen[1] == dlsym(RTLD_DEFAULT, "free"); }

int main(void)
{
    char *held = NULL;
    ready();
    while (asked()) {
        if (!strcmp(question, "warm")) {
            void *volatile some = malloc(1);
            free(some);
        } else {
            held = renewed(held);
        }
        SAY("%s %d", held ? held : "-", same());
    }
    return 0;
}
#endif
