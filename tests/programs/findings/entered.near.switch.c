/* A table of offsets that leads behind the overwritten bytes, and one of addresses of the function itself. */
//# flags: -O2
//# option: --replace chooses=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl chooses\n\t.type chooses, @function\nchooses:\n"
        "\txor %eax, %eax\n\tinc %eax\n\tinc %eax\n1:\tlea 9f(%rip), %rdx\n\tmovslq (%rdx,%rdi,4), %rcx\n\tadd %rdx, %rcx\n"
        "\tnotrack jmp *%rcx\n2:\tret\n\t.size chooses, . - chooses\n"
        "\t.section .rodata\n\t.balign 4\n9:\t.long 2b - 9b, 1b - 9b\n\t.data\n\t.balign 8\n\t.quad chooses, 1b\n\t.text\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
