/* The second file that includes the header. */
#ifndef PATCH
#include "price.h"
int second(int pieces);
int second(int pieces) { return price(pieces) + 1; }
#endif
