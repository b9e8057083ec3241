/* The same by the compiler: one of them becomes a jump to the other, or another name of it. */
//# flags: -O2
//# option: --replace price=new_price
//# finds: is also the code of weight
//# finds: weight is a jump to it, at 0x
#ifdef PATCH
int new_price(int pieces) { return pieces * 10; }
#else
#include "talk.h"

int price(int pieces);
int price(int pieces)
{
    int sum = 1;

    for (int i = 0; i < pieces; i++) {
        sum += sum % 7 ? i * 3 : puts("seven");
        sum ^= sum << (i % 3);
        sum -= i & 5 ? sum >> 3 : i;
    }
    return sum * 10 + 1;
}

int weight(int pieces);
int weight(int pieces)
{
    int sum = 1;

    for (int i = 0; i < pieces; i++) {
        sum += sum % 7 ? i * 3 : puts("seven");
        sum ^= sum << (i % 3);
        sum -= i & 5 ? sum >> 3 : i;
    }
    return sum * 10 + 1;
}

int main(void)
{
    ready();
    while (asked())
        SAY("%d %d", price(atoi(question)), weight(atoi(question)));
    return 0;
}
#endif
