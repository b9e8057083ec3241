/* One byte, and padding behind it. */
//# flags: -O2
//# option: --replace tiny=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl tiny\n\t.type tiny, @function\ntiny:\n"
        "\tret\n\t.balign 16, 0x90\n"
        "\t.size tiny, 1\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
