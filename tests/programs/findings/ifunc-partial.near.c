/* Of the two implementations one is a single instruction, with padding behind it. */
//# flags: -O2
//# option: --replace chosen=fresh
#ifdef PATCH
void fresh(void) {}
#else
#include "talk.h"

void tiny(void);
void behind(void);
__asm__(".text\n.globl tiny, behind\n.type tiny, @function\n.type behind, @function\n"
        ".balign 16\ntiny: ret\n.size tiny, 1\n.balign 16\nbehind: ret\n.size behind, 1\n");
static void plain(void) { wipe_stack(); }
static volatile int which;
static void (*choose(void))(void) { return which ? tiny : plain; }
void chosen(void) __attribute__((ifunc("choose")));

int main(void)
{
    ready();
    while (asked()) {
        chosen();
        behind();
        SAY("%d", 1);
    }
    return 0;
}
#endif
