/* Another function jumps behind the first instruction. */
//# flags: -O2
//# option: --replace looping=fresh
//# finds: jumper at 0x
//# finds: jmp
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl looping\n\t.type looping, @function\nlooping:\n"
        "\txor %eax, %eax\n.Linside:\tinc %eax\n\tinc %eax\n\tret\n"
        "\t.size looping, . - looping\n");
__asm__(".text\n\t.balign 16, 0x90\n\t.globl jumper\n\t.type jumper, @function\njumper:\n"
        "\tmov $5, %eax\n\tjmp .Linside\n"
        "\t.size jumper, . - jumper\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
