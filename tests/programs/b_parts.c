/* Unlikely code that gcc moves away: some comes back, some ends the program, and `last` ends by calling another function. */
#ifdef PATCH
int fresh(int x);
int fresh(int x) { return x; }
#else
#include "talk.h"
#include <stdlib.h>

__attribute__((noipa, cold)) int seldom(int x) { return x + 1; }
static int other(int x);

REPLACEABLE int comes_back(int x)
{
    int sum = 0;
    for (int i = 0; i < x; i++) {
        if (__builtin_expect(i % 7 == 3, 0))
            sum += seldom(i);
        sum ^= i * x;
    }
    return sum;
}

REPLACEABLE int ends(int x)
{
    int y = comes_back(x + 1);
    if (__builtin_expect(y == 77, 0)) {
        seldom(y + x);
        abort();
    }
    return y - x;
}

REPLACEABLE int last(int x) { return other(x + 1); }

__attribute__((noipa)) static int other(int x)
{
    int sum = 1;
    for (int i = 0; i < x; i++)
        sum = sum * 3 + comes_back(i);
    return sum;
}

int main(void)
{
    ready();
    while (asked())
        SAY("%d", ends(2) + last(3));
    return 0;
}
#endif
