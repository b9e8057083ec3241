/* A jump table in the middle of the function, and code behind it that only the table leads to. */
//# flags: -O2
//# option: --replace counts=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

int counts(int x);
__asm__(".text\n\t.balign 16, 0x90\n\t.globl counts\n\t.type counts, @function\ncounts:\n"
        "\tand $1, %edi\n\tlea 3f(%rip), %rax\n\tmovslq (%rax,%rdi,4), %rcx\n\tadd %rcx, %rax\n\tjmp *%rax\n"
        "3:\t.long 1f - 3b, 2f - 3b\n\t.byte 6, 6\n"
        "1:\tmov $1, %eax\n\tret\n2:\tmov $2, %eax\n\tret\n\t.size counts, . - counts\n\t.balign 16, 0x90\n");

int main(void)
{
    ready();
    while (asked())
        SAY("%d", counts(1));
    return 0;
}
#endif
