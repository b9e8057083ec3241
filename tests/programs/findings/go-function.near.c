/* A function of C in a program of Go. */
//# flags: -O2
//# option: --replace plain=fresh
#ifdef PATCH
int fresh(int x) { return x; }
#else
#include "talk.h"

__asm__(".pushsection .note.go.buildid,\"a\",@note\n\t.long 4, 4, 4\n\t.asciz \"Go\\0\"\n\t.long 0\n\t.popsection");
int answer(int x) __asm__("main.answer");
int plain(int x);
REPLACEABLE int answer(int x) { return x * 10 + 1; }
REPLACEABLE int plain(int x) { return x * 10 + 2; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", answer(1), plain(1));
    return 0;
}
#endif
