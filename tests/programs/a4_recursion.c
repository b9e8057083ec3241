/* A recursive function, and two that call each other: the recursion goes through the new code. */
//# flags: -O0
//# option: --replace depth=new_depth --replace is_even=new_is_even --replace is_odd=new_is_odd
//# ask: depth 9 => 9 | 18
//# ask: even 7 => 0 | 100
//# ask: even 8 => 1 | 101
int depth(int n);
int is_even(int n);
int is_odd(int n);

#ifdef PATCH
/* `depth` is the target's: its entry leads back here. A call that reached the old body would add 1 instead of 2. */
int new_depth(int n) { return n ? 2 + depth(n - 1) : 0; }
/* The last call answers with 100 more: it is new, whichever of the two it is. */
int new_is_even(int n) { return n > 1 ? is_odd(n - 1) : 100 + (n == 0); }
int new_is_odd(int n) { return n > 1 ? is_even(n - 1) : 100 + (n == 1); }
#else
#include "talk.h"
REPLACEABLE int depth(int n) { return n ? 1 + depth(n - 1) : 0; }
REPLACEABLE int is_even(int n) { return n ? is_odd(n - 1) : 1; }
REPLACEABLE int is_odd(int n) { return n ? is_even(n - 1) : 0; }

int main(void)
{
    ready();
    while (asked()) {
        int n = atoi(strchr(question, ' '));
        SAY("%d", question[0] == 'd' ? depth(n) : is_even(n));
    }
    return 0;
}
#endif
