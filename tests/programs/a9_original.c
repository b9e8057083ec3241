/* The new function calls the old one, whose first instruction reads relative to its own address. */
//# flags: -O2
//# option: --replace small=new_small
//# ask: with 2 => 42 | 1042
//# ask: flag 0 => 7 | 1007
//# ask: flag 1 => 9 | 1009
//# ask: small 5 => 6 | 106
#ifdef PATCH
#include "livepatch.h"
int with_base(int x);
int with_flag(int x);
int small(int x);

LP_REPLACE(with_base) int new_with_base(int x) { return LP_ORIGINAL(with_base)(x) + 1000; }
LP_REPLACE(with_flag) int new_with_flag(int x) { return LP_ORIGINAL(with_flag)(x) + 1000; }
int new_small(int x) { return LP_ORIGINAL(small)(x) + 100; }
#else
#include "talk.h"
static volatile int base = 40;
char seven = 7;
int with_flag(int x);

/* Shorter than the jump that is written over it: its padding is used too. */
REPLACEABLE int small(int x) { return x + 1; }
/* mov base(%rip), %eax */
REPLACEABLE int with_base(int x) { return base + x; }
/* A short conditional jump among the first instructions: 7 for 0, else 9. */
__asm__(".text\n.globl with_flag\n.type with_flag,@function\nwith_flag:\n"
        "  test %edi,%edi; je 1f; mov $9,%eax; ret\n"
        "1: movsbl seven(%rip),%eax; ret\n"
        ".size with_flag,.-with_flag\n");

int main(void)
{
    ready();
    while (asked()) {
        int x = atoi(strchr(question, ' '));
        SAY("%d", question[0] == 'w' ? with_base(x) : question[0] == 'f' ? with_flag(x) : small(x));
    }
    return 0;
}
#endif
