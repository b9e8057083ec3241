/* A symbol whose size is larger than any function's. */
//# flags: -O2
//# option: --replace vast=fresh
//# finds: vast at 0x
//# finds: 16777217 bytes
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl vast\n\t.type vast, @function\nvast:\n"
        "\txor %eax, %eax\n\tinc %eax\n\tinc %eax\n\tret\n\t.skip 16777217 - 7, 0x90\n"
        "\t.size vast, . - vast\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
