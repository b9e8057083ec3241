/* A function that is written in assembly, without a type. */
//# flags: -O2
//# option: --replace table=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl table\ntable:\n\txor %eax, %eax\n\tinc %eax\n\tinc %eax\n\tret\n\t.balign 16, 0x90");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
