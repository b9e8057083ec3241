/* A global object of C++ whose value the compiler knows. */
//# flags: -O2
//# option: --replace answer=fresh
#ifdef PATCH
struct Ready {
    int value;
    constexpr Ready() : value(2) {}
};
static Ready ready_made;
extern "C" int fresh(int x) { return x + ready_made.value++; }
#else
#include "talk.h"

extern "C" REPLACEABLE int answer(int x) { return x * 10 + 1; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", answer(1));
    return 0;
}
#endif
