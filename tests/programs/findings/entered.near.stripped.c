/* Without symbols: a tail call to a function that has a loop and calls, and one through the linkage table, are no parts. */
//# flags: -O2 -s -rdynamic
//# option: --replace chooses=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.type helper, @function\nhelper:\n\t.cfi_startproc\n1:\tdec %edi\n\tjns 1b\n\tjmp chooses\n"
        "\t.cfi_endproc\n\t.size helper, . - helper\n"
        "\t.balign 16, 0x90\n\t.globl chooses\n\t.type chooses, @function\nchooses:\n\t.cfi_startproc\n"
        "\txor %eax, %eax\n\tinc %eax\n\tinc %eax\n\tcmp \$3, %edi\n\tja helper\n\tjmp abort@PLT\n\t.cfi_endproc\n"
        "\t.size chooses, . - chooses\n\t.balign 16, 0x90\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
