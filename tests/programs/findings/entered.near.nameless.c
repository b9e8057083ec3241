/* A function without symbol goes on to another one. */
//# flags: -O2 -rdynamic -s
//# option: --replace victim=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

int victim(int x);
__attribute__((visibility("hidden"))) int intruder(int x);
__asm__(".text\n.globl victim, intruder\n.hidden intruder\n.type victim, @function\n.type intruder, @function\n"
        ".balign 16\nvictim: .cfi_startproc\nmov %edi, %eax\nadd $1, %eax\nadd $2, %eax\nret\n.cfi_endproc\n.size victim, . - victim\n"
        ".balign 16\nintruder: .cfi_startproc\nmov $5, %eax\njmp victim\n.cfi_endproc\n.size intruder, . - intruder\n");

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", victim(1), intruder(1));
    return 0;
}
#endif
