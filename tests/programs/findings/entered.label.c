/* The function takes the address of its second instruction. */
//# flags: -O2
//# option: --replace chooses=fresh
//# finds: lea rdx
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl chooses\n\t.type chooses, @function\nchooses:\n"
        "\txor %eax, %eax\n1:\tinc %eax\n\tlea 1b(%rip), %rdx\n\tcmp %eax, %edi\n\tjb 2f\n\tjmp *%rdx\n2:\tret\n"
        "\t.size chooses, . - chooses\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
