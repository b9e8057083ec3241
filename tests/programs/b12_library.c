/*
 * The library is the target of the patch. OWN_RATE is a program that defines `rate` itself, before the library's;
 * OWN_SPARE is one that does so with `spare`.
 */
//# option: --replace answer=new_answer
#ifdef PATCH
extern int rate(void);
#ifdef SPARE
extern int spare(int x);
int new_answer(int x) { return spare(x); }
#else
int new_answer(int x) { return 1000 * rate() + x; }
#endif
#elif defined LIBRARY
__attribute__((noipa)) int rate(void) { return 1; }
__attribute__((noipa)) int spare(int x) { return 5000 + x; }
__attribute__((noipa)) int answer(int x) { return x > 5 ? 10 * rate() + x : x; }
#else
#include "talk.h"

int answer(int x);

#ifdef OWN_RATE
int rate(void) { return 7; }
#endif
#ifdef OWN_SPARE
int spare(int x) { return 6000 + x; }
#endif

int main(void)
{
    ready();
    while (asked())
        SAY("%d", answer(atoi(question)));
    return 0;
}
#endif
