/* The other half of c10_throws.cpp: calls what may throw as far as it knows. */
#include "talk.h"
#include <string>

int caller(int a, int b, int c, int d);

int main()
{
    ready();
    while (asked()) {
        try {
            int result = caller(atoi(question), 2, 3, 2);
            SAY("%d", result);
        } catch (const std::string &thrown) {
            SAY("caught %s", thrown.c_str());
        }
    }
}
