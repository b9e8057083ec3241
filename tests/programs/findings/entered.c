/* A loop whose head is the second instruction. */
//# flags: -O2
//# option: --replace looping=fresh
//# finds: looping
//# finds: branches into the bytes that the jump overwrites
//# finds: jne
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl looping\n\t.type looping, @function\nlooping:\n"
        "\txor %eax, %eax\n1:\tinc %eax\n\tdec %edi\n\tjne 1b\n\tret\n"
        "\t.size looping, . - looping\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
