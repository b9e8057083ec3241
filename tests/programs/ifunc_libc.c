/* IFUNCs of libc that are replaced: one that libc has a slot for, one that only the program has. */
//# flags: -O2 -fno-builtin -Wl,-z,lazy
//# patch-flags: -fno-builtin
#ifdef PATCH
#include "livepatch.h"
#include <string.h>
char *new_strrchr(const char *s, int c) { return *s == '@' ? (char *)s : LP_ORIGINAL(strrchr)(s, c); }
char *new_strstr(const char *s, const char *word) { return *s == '@' ? (char *)s : strchr(s, *word); }
#else
#include "talk.h"
#include <dlfcn.h>

int main(void)
{
    ready();
    while (asked())
        if (!strcmp(question, "which"))
            SAY("%td", (char *)dlsym(RTLD_DEFAULT, "strrchr") - (char *)dlsym(RTLD_DEFAULT, "qsort"));
        else if (strchr(question, '/'))
            SAY("%td", strrchr(question, '/') - question);
        else
            SAY("%td", strstr(question, "word") - question);
    return 0;
}
#endif
