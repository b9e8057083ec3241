/* Assembly that runs on into the next function, as it is meant to; and one that ends in a call that does not return. */
//# flags: -O2
//# option: --replace counts=fresh --replace dies=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl counts\n\t.type counts, @function\ncounts:\n"
        "\txor %eax, %eax\n\tinc %eax\n\tinc %eax\n\t.size counts, . - counts\n"
        "\t.globl next\n\t.type next, @function\nnext:\n\tinc %eax\n\tret\n\t.size next, . - next\n"
        "\t.globl dies\n\t.type dies, @function\ndies:\n\tpush %rax\n\tcall abort@PLT\n\t.size dies, . - dies\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
