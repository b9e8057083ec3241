/* The struct is reached through a list that only the body of the functions knows; it differs inside an anonymous union. */
//# flags: -O2
//# option: --replace first=new_first
//# finds: struct item is not the same in the target and in the patch
//# finds: +8 int number (4 bytes) in the target, float number (4 bytes) in the patch
#include "talk.h"
#ifdef PATCH
struct item {
    struct item *next;
    union {
        float number;
        char text[8];
    };
};
extern void *items;
int new_first(void)
{
    struct item *item = items;
    return (int)item->next->number;
}
#else
struct item {
    struct item *next;
    union {
        int number;
        char text[8];
    };
};
static struct item one = {&one, {1}};
void *items = &one;
REPLACEABLE int first(void)
{
    struct item *item = items;
    return item->next->number;
}

int main(void)
{
    ready();
    while (asked())
        SAY("%d", first());
    return 0;
}
#endif
