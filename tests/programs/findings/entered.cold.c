/* A table of offsets leads into the unlikely part of the function and behind its end before it leads to the second instruction. */
//# flags: -O2
//# option: --replace chooses=fresh
//# finds: the table at 0x
//# finds: .rodata
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.type chooses.cold, @function\nchooses.cold:\n\tdec %eax\n3:\tret\n\t.size chooses.cold, . - chooses.cold\n"
        "\t.balign 16, 0x90\n\t.globl chooses\n\t.type chooses, @function\nchooses:\n"
        "\txor %eax, %eax\n1:\tinc %eax\n\tcmp $3, %edi\n\tja chooses.cold\n\tlea 9f(%rip), %rdx\n\tmovslq (%rdx,%rdi,4), %rcx\n"
        "\tadd %rdx, %rcx\n\tnotrack jmp *%rcx\n2:\tret\n4:\n\t.size chooses, . - chooses\n\t.balign 16, 0x90\n"
        "\t.section .rodata\n\t.balign 4\n9:\t.long 2b - 9b, 3b - 9b, 4b - 9b, 1b - 9b\n\t.text\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
