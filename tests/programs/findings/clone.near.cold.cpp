/* A function of which only an unlikely part stands apart: that is no second function of its name. */
//# flags: -O2
//# option: --replace count=new_count
#include "talk.h"
#include <stdexcept>
#include <string>
#ifdef PATCH
extern "C" int new_count(const std::string &text) { return (int)text.size(); }
#else
static __attribute__((noinline)) int count(const std::string &text)
{
    std::string twice = text + text;
    if (twice.size() > 100)
        throw std::runtime_error(twice);
    puts(twice.c_str());
    return (int)twice.size();
}
int (*volatile counter)(const std::string &) = count;

int main()
{
    ready();
    while (asked())
        SAY("%d", counter(question));
    return 0;
}
#endif
