/* The size ends in the middle of an instruction. */
//# flags: -O2
//# option: --replace counts=fresh
//# finds: counts has more code than the 9 bytes
//# finds: `mov eax,
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl counts\n\t.type counts, @function\ncounts:\n"
        "\ttest %edi, %edi\n\tjs 1f\n\txor %eax, %eax\n\tret\n1:\tmov $7, %eax\n\tret\n\t.size counts, 9\n"
        "\t.balign 16, 0x90\n\t.globl next\n\t.type next, @function\nnext:\tret\n\t.size next, . - next\n\t.balign 16, 0x90\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
