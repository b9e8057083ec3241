/* Branches out of the function: to the next one, to the end of the code where nothing but padding follows, and to assembly that has a label. */
//# flags: -O2
//# option: --replace counts=fresh
//# option: --replace other=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".text\n\t.balign 16, 0x90\n\t.globl counts\n\t.type counts, @function\ncounts:\n"
        "\txor %eax, %eax\n\ttest %edi, %edi\n\tjs 1f\n\tjp next\n\tinc %eax\n\tret\n1:\n\t.size counts, . - counts\n"
        "\t.balign 16, 0x90\n\t.globl next\n\t.type next, @function\nnext:\tret\n\t.size next, . - next\n\t.balign 16, 0x90\n"
        "\t.globl other\n\t.type other, @function\nother:\n\txor %eax, %eax\n\ttest %edi, %edi\n\tjs shared\n\tinc %eax\n\tret\n"
        "\t.size other, . - other\nshared:\tdec %eax\n\tret\n\t.balign 16, 0x90\n");

int main(void)
{
    ready();
    while (asked())
        SAY("x");
    return 0;
}
#endif
