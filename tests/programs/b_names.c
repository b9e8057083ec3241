/* Says what dlsym says of a name, and `#N`: the N-th address that the patch has. */
#include "talk.h"
#include <dlfcn.h>

REPLACEABLE void *address(int n) { return (void *)(long)n; }

int main(void)
{
    ready();
    while (asked())
        SAY("%p", question[0] == '#' ? address(atoi(question + 1)) : dlsym(RTLD_DEFAULT, question));
    return 0;
}
