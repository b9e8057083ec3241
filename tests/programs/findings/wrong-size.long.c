/* The symbol says more than there is: it reaches over the next function. */
//# flags: -O2
//# option: --replace counts=fresh
//# finds: reach over next at 0x
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl counts\n\t.type counts, @function\ncounts:\n"
        "\txor %eax, %eax\n\tinc %eax\n\tinc %eax\n\tinc %eax\n\tinc %eax\n\tret\n"
        "\t.size counts, 40\n\t.balign 16, 0x90\n\t.globl next\n\t.type next, @function\nnext:\tret\n\t.size next, . - next\n\t.balign 16, 0x90\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
