/* A branch that has only a short form. */
//# flags: -O2
//# option: --replace counts=fresh
//# finds: counts
//# finds: jrcxz
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl counts\n\t.type counts, @function\ncounts:\n"
        "\tmov %rdi, %rcx\n\tjrcxz 1f\n\tinc %eax\n1:\tret\n"
        "\t.size counts, . - counts\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
