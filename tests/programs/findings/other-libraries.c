/* The patch takes a function from a library that the program does not load. */
//# flags: -O2
//# patch-flags: -l:libz.so.1
//# option: --replace answer=fresh
//# finds: libz.so.1
//# finds: crc32
#ifdef PATCH
unsigned long crc32(unsigned long crc, const unsigned char *bytes, unsigned len);
int fresh(int x);
int fresh(int x) { return (int)crc32(0, (const unsigned char *)"x", 1) + x; }
#else
#include "talk.h"

REPLACEABLE int answer(int x) { return x * 10 + 1; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", answer(1));
    return 0;
}
#endif
