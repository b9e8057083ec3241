/* One of the twins of ../main.c. */
#define KEPT __attribute__((noipa))
static volatile int level = 3;
static KEPT int helper(int x) { return x + 100 + level; }
int one(int x);
KEPT int one(int x) { return helper(x); }
