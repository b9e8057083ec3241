/* Compares the addresses of a patch's table with what dlvsym says about the same names (names.h is made by the test). */
#include "talk.h"
#include <dlfcn.h>
#include <gnu/lib-names.h>
#include <stdint.h>
#include <time.h>

static const struct {
    const char *name, *version;
} names[] = {
#include "names.h"
};
enum { COUNT = sizeof names / sizeof *names };

REPLACEABLE void **answer(void)
{
    static void **volatile none;
    return none;
}

/* What a thunk (endbr64; jmp *[rip+n]) goes to; 0 if it is none. */
static void **slot_of(unsigned char *code)
{
    static const unsigned char head[] = {0xf3, 0x0f, 0x1e, 0xfa, 0xff, 0x25};
    int32_t distance;
    if (memcmp(code, head, sizeof head))
        return 0;
    memcpy(&distance, code + 6, 4);
    return (void **)(code + 10 + distance);
}

/* Arguments that are good for each of these functions: two empty buffers, no length, a size, and numbers. */
static void call(void *function)
{
    static char a[4096], b[4096];
    memset(a, 0, sizeof a);
    memset(b, 0, sizeof b);
    ((void (*)(void *, void *, size_t, size_t, double, double, double))function)(a, b, 0, sizeof a, 0.5, 0.5, 0.5);
}

static REPLACEABLE void compare(void **table)
{
    int same = 0, thunks = 0, wrong = 0;
    for (int i = 0; i < COUNT; i++) {
        void *want = dlvsym(RTLD_DEFAULT, names[i].name, names[i].version);
        void **slot = want && table[i] != want ? slot_of(table[i]) : 0;
        if (slot)
            call(table[i]);
        same += table[i] == want;
        thunks += slot && *slot == want;
        if (table[i] != want && !(slot && *slot == want)) {
            fprintf(stderr, "%s@%s: %p, should be %p\n", names[i].name, names[i].version, slot ? *slot : table[i], want);
            wrong++;
        }
    }
    SAY("same %d thunks %d wrong %d", same, thunks, wrong);
}

int main(void)
{
    ready();
    while (asked()) {
        void **table = answer();
        if (!strcmp(question, "memcpy"))
            /* In pages from the start of libc, which lies elsewhere each time. */
            SAY("%zx", (size_t)((char *)dlsym(RTLD_DEFAULT, "memcpy") - (char *)dlsym(RTLD_DEFAULT, "puts")));
        else if (!strcmp(question, "bind"))
            SAY("%d", strstr(question, "nothing") == 0 && time(0) != 0);
        else if (table)
            compare(table);
        else
            SAY("no table");
        wipe_stack(); /* addresses of thunks */
    }
    return 0;
}
