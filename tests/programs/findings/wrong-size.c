/* The symbol says less than there is. */
//# flags: -O2
//# option: --replace counts=fresh
//# finds: counts has more code than the 8 bytes
//# finds: inc eax
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl counts\n\t.type counts, @function\ncounts:\n"
        "\txor %eax, %eax\n\tinc %eax\n\tinc %eax\n\tinc %eax\n\tinc %eax\n\tret\n"
        "\t.size counts, 8\n\t.balign 16, 0x90\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
