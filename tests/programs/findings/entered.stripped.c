/* Without symbols, only the unwind table tells of the unlikely part, which jumps back to the second instruction and to the third. */
//# flags: -O2 -s -rdynamic
//# option: --replace chooses=fresh
//# finds: chooses.part at 0x
//# finds: jmp
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.type chooses.cold, @function\nchooses.cold:\n\t.cfi_startproc\n\tdec %edi\n\tjs 2f\n\tjmp 1f\n2:\tjmp 3f\n"
        "\t.cfi_endproc\n\t.size chooses.cold, . - chooses.cold\n"
        "\t.balign 16, 0x90\n\t.globl chooses\n\t.type chooses, @function\nchooses:\n\t.cfi_startproc\n"
        "\txor %eax, %eax\n1:\tinc %eax\n\tinc %eax\n3:\tcmp \$3, %edi\n\tja chooses.cold\n\tret\n\t.cfi_endproc\n"
        "\t.size chooses, . - chooses\n\t.balign 16, 0x90\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
