/* One byte, and the next function right behind it. */
//# flags: -O2
//# option: --replace tiny=fresh
//# finds: tiny at 0x
//# finds: 1 bytes and no padding
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl tiny\n\t.type tiny, @function\ntiny:\n"
        "\tret\n"
        "\t.size tiny, . - tiny\n");
__asm__(".globl next\n\t.type next, @function\nnext:\n\tret\n\t.size next, . - next\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
