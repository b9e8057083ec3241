/* A static function of a header: each file that includes it has a body of its own. */
static __attribute__((noipa)) int price(int pieces) { return pieces * 10 + 1; }
