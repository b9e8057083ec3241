/* A table of addresses leads to the second instruction. */
//# flags: -O2
//# option: --replace chooses=fresh
//# finds: the word at 0x
//# finds: .data
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl chooses\n\t.type chooses, @function\nchooses:\n"
        "\txor %eax, %eax\n1:\tinc %eax\n\tinc %eax\n\tret\n\t.size chooses, . - chooses\n"
        "\t.data\n\t.balign 8\n\t.globl labels\nlabels:\t.quad chooses, 1b\n\t.text\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
