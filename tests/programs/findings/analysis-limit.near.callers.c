/* As analysis-limit.callers.c, with fewer functions. */
//# flags: -O2
//# option: --replace counts=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

extern int counts(int x);
__asm__(".text\n\t.balign 16, 0x90\n\t.globl counts\n\t.type counts, @function\ncounts:\n"
        "\tlea 1(%rdi), %eax\n\ttest %edi, %edi\n\tjs 1f\n\tinc %eax\n1:\tret\n\t.size counts, . - counts\n"
        "c0:\tjmp counts\n"
        ".altmacro\n.macro step n m\n\t.type c\\n, @function\nc\\n:\tsub $8, %rsp\n\tcall c\\m\n\tadd $8, %rsp\n\tret\n"
        "\t.size c\\n, . - c\\n\n.endm\n\t.type c0, @function\n\t.size c0, 5\n"
        ".set i, 1\n.rept 900\n\tstep %i, %(i - 1)\n\t.set i, i + 1\n.endr\n.noaltmacro\n");

int main(void)
{
    ready();
    while (asked())
        SAY("%d", counts(1));
    return 0;
}
#endif
