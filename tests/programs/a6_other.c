/* The second file of a6_statics.c. */
#include "talk.h"

static REPLACEABLE int helper(int x) { return x + 200; }

int other(int x) { return helper(x) + 1000; }
