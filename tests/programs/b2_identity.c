/* Pointers that the patch takes are the same as the target's own: to an import, a global, a static, two functions. */
//# option: --replace same=new_same --bind local=b2_identity.c:local --bind local_data=b2_identity.c:local_data
//# ask: x => 0 | 63
#include <stdio.h>
#include <stdlib.h>

struct seen { void *import, *import_called, *global, *function, *local, *local_data; };

#ifdef PATCH
extern int global, local_data;
int function(int);
int local(int);

int new_same(const struct seen *s)
{
    return (s->import == (void *)puts) | (s->import_called == (void *)atoi) << 1 | (s->global == (void *)&global) << 2
         | (s->function == (void *)function) << 3 | (s->local == (void *)local) << 4
         | (s->local_data == (void *)&local_data) << 5;
}
#else
#include "talk.h"
int global = 1;
static volatile int local_data = 2;

REPLACEABLE int same(const struct seen *s) { return s == 0; }
REPLACEABLE int function(int x) { return x + 1; }
static REPLACEABLE int local(int x) { return x + 2; }

int main(void)
{
    struct seen s = {puts, atoi, &global, function, local, (void *)&local_data};
    ready();
    while (asked())
        SAY("%d", same(&s) + 0 * (atoi("1") + local(1) + function(1)));
    return 0;
}
#endif
