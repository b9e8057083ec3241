/* A static function of the same name, but another one. */
#ifndef PATCH
int second(int pieces);
static __attribute__((noipa)) int price(int pieces) { return pieces * 20; }
int second(int pieces) { return price(pieces) + 1; }
#endif
