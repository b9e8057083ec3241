/* Bytes that are no instruction, but data in the text: jumped over, behind a return, and behind a call that does not return. */
//# flags: -O2
//# option: --replace counts=fresh --replace dies=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

int counts(int x);
__asm__(".text\n\t.balign 16, 0x90\n\t.globl counts\n\t.type counts, @function\ncounts:\n"
        "\tlea 1(%rdi), %eax\n\ttest %edi, %edi\n\tjs 1f\n\tjmp 2f\n\t.byte 6, 6\n1:\tinc %eax\n2:\tret\n"
        "\t.byte 6, 7, 0x0e\n\t.size counts, . - counts\n\t.balign 16, 0x90\n"
        "\t.globl dies\n\t.type dies, @function\ndies:\n\tpush %rax\n\tcall abort@PLT\n\t.byte 6, 6\n\tret\n"
        "\t.size dies, . - dies\n\t.balign 16, 0x90\n");

int main(void)
{
    ready();
    while (asked())
        SAY("%d", counts(1));
    return 0;
}
#endif
