/* Signs, const, typedefs, names of structs that only pointers lead to, enums for integers, no prototype at all. */
//# flags: -O2
//# option: --replace scale=new_scale
#include "talk.h"
#include <stdint.h>
#ifdef PATCH
enum mode { SLOW, FAST };
struct table {
    int first;
};
extern int half();
extern int sum(const char *text, ...);
int32_t new_scale(const struct table *t, uint32_t n, enum mode mode, const unsigned char *text, void *more, _Bool last)
{
    return t->first + (int)n + half(mode) + !text + !more + last + sum("%d", 3);
}
#else
typedef struct {
    int start;
} list_t;
REPLACEABLE int half(int n) { return n / 2; }
REPLACEABLE int sum(const char *text, ...) { return text[0]; }
REPLACEABLE int scale(list_t *list, int n, unsigned mode, char *text, int *more, _Bool last)
{
    return list->start + half(n) + (int)mode + !text + !more + last + sum("%d", 4);
}

int main(void)
{
    list_t list = {2};
    ready();
    while (asked())
        SAY("%d", scale(&list, atoi(question), 1, question, 0, 1));
    return 0;
}
#endif
