/* One of the twins of ../main.c. */
#define KEPT __attribute__((noipa))
static volatile int level = 5;
static KEPT int helper(int x) { return x + 200 + level; }
int two(int x);
KEPT int two(int x) { return helper(x); }
