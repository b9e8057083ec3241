/* Assembly that is described only as far as an unwinder can follow it, as `clone` of glibc. */
//# flags: -O2 -s -rdynamic
//# option: --replace counts=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

int counts(int x);
__asm__(".text\n\t.balign 16, 0x90\n\t.globl counts\n\t.type counts, @function\ncounts:\n\t.cfi_startproc\n"
        "\tlea 1(%rdi), %eax\n\ttest %edi, %edi\n\t.cfi_endproc\n\tjs 1f\n\tinc %eax\n1:\tret\n"
        "\t.size counts, . - counts\n\t.balign 16, 0x90\n");

int main(void)
{
    ready();
    while (asked())
        SAY("%d", counts(1));
    return 0;
}
#endif
