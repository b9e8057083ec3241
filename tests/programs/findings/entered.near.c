/* Loops back to the first byte, where the jump stands, and behind the jump. */
//# flags: -O2
//# option: --replace looping=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl looping\n\t.type looping, @function\nlooping:\n"
        "\tendbr64\n\txor %eax, %eax\n\tinc %eax\n\tinc %eax\n1:\tdec %edi\n\tjne 1b\n\tret\n"
        "\t.size looping, . - looping\n");
__asm__(".text\n\t.balign 16, 0x90\n\t.globl jumper\n\t.type jumper, @function\njumper:\n"
        "\tmov $5, %eax\n\tjmp looping\n"
        "\t.size jumper, . - jumper\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
