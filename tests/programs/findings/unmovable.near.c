/* The same branch behind the bytes that are moved; a short conditional branch and an operand relative to rip can be moved. */
//# flags: -O2
//# option: --replace counts=fresh
//# option: --replace other=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl counts\n\t.type counts, @function\ncounts:\n"
        "\tlea counts(%rip), %rax\n\tmov %rdi, %rcx\n\tjrcxz 1f\n\tinc %eax\n1:\tret\n"
        "\t.size counts, . - counts\n");
__asm__(".text\n\t.balign 16, 0x90\n\t.globl other\n\t.type other, @function\nother:\n"
        "\ttest %edi, %edi\n\tje 1f\n\tinc %eax\n1:\tret\n"
        "\t.size other, . - other\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
