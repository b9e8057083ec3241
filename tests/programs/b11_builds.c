/*
 * One function, static data and a static function, wherever a build of the library (or of the program) has them.
 * PADDED moves everything, NO_HELPER leaves something out.
 */
#ifdef PATCH
#include "livepatch.h"
#include <stdlib.h>
#include <string.h>
extern int price(int pieces);
extern int sold(void);
extern int rebate(int pieces);
extern int rate;
extern __thread int turns;
extern int sum(int pieces);

/* The old code, a static function, static data and an export of the library, and libc. */
LP_REPLACE(price) int new_price(int pieces)
{
    int old = LP_ORIGINAL(price)(pieces);
    char text[32] = "";
    memset(text, '1', (size_t)rate);
    return old * 100 + rebate(pieces) - 1000 + 10 * atoi(text) - 10 + sum(0);
}

LP_REPLACE(sold) int new_sold(void)
{
    extern int sales;
    return LP_ORIGINAL(sold)() + 200 * turns * (sales > 0);
}
#else
#include "talk.h"

int price(int pieces);
int sold(void);
int limited(void);

#if defined LIBRARY || !defined MAIN
#ifdef PADDED
char room[5000] = "moves what is behind";
REPLACEABLE int before(int x) { return x * 77 + room[x]; }
#endif
int limit = 100;
int rate = 1;
__thread int turns = 5;
REPLACEABLE int turn(void) { return turns; }
static int sales;

#ifndef NO_HELPER
static REPLACEABLE int rebate(int pieces) { return 1000 + 10 * pieces + 1; }
#else
static REPLACEABLE int rebate_of(int pieces) { return 1000 + 10 * pieces + 1; }
#define rebate rebate_of
#endif
REPLACEABLE int sum(int pieces) { return pieces ? rebate(pieces) : 0; }

REPLACEABLE int price(int pieces)
{
    sales++;
    return sum(pieces) - 1000;
}

REPLACEABLE int sold(void) { return sales; }
REPLACEABLE int limited(void) { return limit; }
#endif

#ifndef LIBRARY
int main(void)
{
    ready();
    while (asked()) {
        int n = price(atoi(question)), s = sold();
        SAY("%d %d %d", n, s, limited());
    }
    return 0;
}
#endif
#endif
