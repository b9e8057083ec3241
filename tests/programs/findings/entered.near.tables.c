/* Behind the table of offsets stands that of another function: read as one, it would lead into the middle of an instruction. */
//# flags: -O2
//# option: --replace chooses=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl chooses\n\t.type chooses, @function\nchooses:\n"
        "\tpush %rbp\n\tmov %rsp, %rbp\n\tlea 9f(%rip), %rdx\n\tmovslq (%rdx,%rdi,4), %rcx\n\tadd %rdx, %rcx\n"
        "\tnotrack jmp *%rcx\n2:\tpop %rbp\n\tret\n\t.size chooses, . - chooses\n"
        "\t.section .rodata\n\t.balign 4\n9:\t.long 2b - 9b\n\t.long chooses + 2 - 9b\n\t.text\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
