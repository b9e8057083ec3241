/* Another function starts in it, but behind the jump. */
//# flags: -O2
//# option: --replace first=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl first\n\t.type first, @function\nfirst:\n"
        "\txor %eax, %eax\n\tnop\n\tnop\n\tnop\n\t.globl second\n\t.type second, @function\nsecond:\n\tinc %eax\n\tinc %eax\n\tret\n\t.size second, . - second\n"
        "\t.size first, 5\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
