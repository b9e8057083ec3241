/* The patch's own data: .data, .bss, .rodata, static locals, tables of pointers, a jump table, RELRO. */
//# flags: -O2
//# patch-flags: -fno-inline
//# option: --replace answer=new_answer
//# ask: 0 => - | calls 1 sum 1 red zero
//# ask: 1 => - | calls 2 sum 3 green one
//# ask: 2 => - | calls 3 sum 6 blue two
//# ask: 9 => - | calls 4 sum 10 red other
#ifdef PATCH
#include <stdio.h>

static const char *const colours[] = {"red", "green", "blue"}; /* R_X86_64_RELATIVE in RELRO */
static char text[1 << 16];                                     /* .bss of many pages */
int shared_count = 0;                                          /* R_X86_64_64 / GLOB_DAT on itself */
int *count_pointer = &shared_count;

static const char *zero(void) { return "zero"; }
static const char *one(void) { return "one"; }
static const char *two(void) { return "two"; }
static const char *(*names[])(void) = {zero, one, two};

static const char *by_jump_table(int n)
{
    switch (n) {
    case 0: return names[0]();
    case 1: return names[1]();
    case 2: return names[2]();
    case 3: return "three";
    case 4: return text;
    case 5: return colours[2];
    default: return "other";
    }
}

const char *new_answer(int n)
{
    static int calls, sum = 0;
    calls++;
    *count_pointer += 1;
    sum += shared_count;
    snprintf(text, sizeof text, "calls %d sum %d %s %s", calls, sum, colours[n % 3], by_jump_table(n));
    return text;
}
#else
#include "talk.h"
REPLACEABLE const char *answer(int n) { return n < 100 ? "-" : ""; }

/*
 * Return addresses of ended calls stay below the stack pointer. If the next call leaves holes in its frames they look
 * alive, and a program that then waits for ever in that call keeps a patch from being reverted. Ours overwrites them.
 */
REPLACEABLE void scrub(void)
{
    volatile char stack[4096];
    for (size_t i = 0; i < sizeof stack; i++)
        stack[i] = 0;
}

int main(void)
{
    ready();
    while (asked()) {
        SAY("%s", answer(atoi(question)));
        scrub();
    }
    return 0;
}
#endif
