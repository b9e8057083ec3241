/* A program with a fixed address takes the address of the second instruction as a constant. */
//# flags: -O2 -no-pie -fno-pie
//# option: --replace chooses=fresh
//# finds: mov edx
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl chooses\n\t.type chooses, @function\nchooses:\n"
        "\txor %eax, %eax\n1:\tinc %eax\n\tmov $1b, %edx\n\tcmp %eax, %edi\n\tjb 2f\n\tjmp *%rdx\n2:\tret\n"
        "\t.size chooses, . - chooses\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
