/* A long function. */
//# flags: -O2
//# option: --replace vast=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl vast\n\t.type vast, @function\nvast:\n"
        "\txor %eax, %eax\n\tinc %eax\n\tinc %eax\n\tret\n\t.skip 1000000, 0x90\n"
        "\t.size vast, . - vast\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
