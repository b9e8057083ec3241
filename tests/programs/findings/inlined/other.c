/* The second file, which the linker's optimisation copies into the first. */
#ifndef PATCH
int price(int pieces);
int price(int pieces) { return pieces * 10 + 1; }
int (*volatile kept)(int) = price;
#endif
