/* The code within the size ends, but a branch leads to more behind it that belongs to no symbol. */
//# flags: -O2
//# option: --replace counts=fresh
//# finds: counts has more code than the 9 bytes
//# finds: `js
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl counts\n\t.type counts, @function\ncounts:\n"
        "\txor %eax, %eax\n\ttest %edi, %edi\n\tjs 1f\n\tinc %eax\n\tret\n\t.size counts, 9\n1:\tdec %eax\n\tret\n"
        "\t.balign 16, 0x90\n\t.globl next\n\t.type next, @function\nnext:\tret\n\t.size next, . - next\n\t.balign 16, 0x90\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
