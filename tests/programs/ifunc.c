/*
 * An IFUNC of the program or its library that is replaced. `heavy` is chosen if the working directory has a file of that
 * name. HIDDEN is a build of the library that does not export what is chosen from.
 */
//# flags: -O2 -fno-builtin -Wl,-z,lazy
//# patch-flags: -fno-builtin
#ifdef PATCH
#include "livepatch.h"
extern int weigh(int x);
int new_weigh(int x) { return 1000 + LP_ORIGINAL(weigh)(x); }
#else
#include <sys/syscall.h>

int weigh(int x);
int light(int x);
int heavy(int x);

#if !defined PRELOAD && (defined LIBRARY || !defined MAIN)
#ifdef HIDDEN
#define IMPLEMENTATION __attribute__((noipa, visibility("hidden")))
#else
#define IMPLEMENTATION __attribute__((noipa))
#endif
IMPLEMENTATION int heavy(int x) { return x + 2; }
IMPLEMENTATION int light(int x) { return x + 1; }

/* A resolver may run before libc is ready. */
static int exists(const char *path)
{
    long result = SYS_access;
    __asm__ volatile("syscall" : "+a"(result) : "D"(path), "S"(0L) : "rcx", "r11", "memory");
    return result == 0;
}

static int (*choose(void))(int) { return exists("heavy") ? heavy : light; }
int weigh(int x) __attribute__((ifunc("choose")));
#endif

#ifdef PRELOAD
int weigh(int x) { return x + 7; }
#elif !defined LIBRARY
#include "talk.h"

int main(void)
{
    ready();
    while (asked())
        if (!strcmp(question, "weigh"))
            SAY("%d", weigh(1));
        else if (!strcmp(question, "each"))
            SAY("%d %d", light(1), heavy(1));
    return 0;
}
#endif
#endif
