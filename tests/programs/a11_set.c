/* Data is written without new code: a number, a text, bytes, an address. */
//# flags: -O2
//# option: --set level=int:3->-4 --set name=str:new --set blob+1=hex:aabb --set a11_set.c:hidden=u64:7 --set hook=addr:thrice
//# ask: all => 3 old 01020304 5 hook 20 | -4 new 01aabb04 7 hook 30
#ifdef PATCH
/* Only here because a bundle is made from a patch. */
int unused_by_all;
#else
#include "talk.h"
#include <stdint.h>

int twice(int x) { return 2 * x; }
int thrice(int x) { return 3 * x; }

volatile int level = 3;
char name[8] = "old";
unsigned char blob[4] = {1, 2, 3, 4};
static volatile uint64_t hidden = 5;
int (*volatile hook)(int) = twice;

int main(void)
{
    ready();
    while (asked()) {
        if (!strncmp(question, "level ", 6))
            level = atoi(question + 6);
        asm volatile("" : : "r"(name), "r"(blob) : "memory"); /* both may have changed */
        SAY("%d %s %02x%02x%02x%02x %d hook %d", level, name, blob[0], blob[1], blob[2], blob[3], (int)hidden, hook(10));
    }
    return 0;
}
#endif
