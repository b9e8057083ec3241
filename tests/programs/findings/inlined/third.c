/* The second file that includes the header: here it is copied. */
#ifndef PATCH
#include "price.h"
int second(int pieces);
__attribute__((noipa)) int second(int pieces) { return price(pieces) + 1; }
#endif
