/* A small target for things that go wrong. OTHER makes another build of it, MORE one of another size; MISSING a patch with unknown imports. */
//# flags: -O1
//# option: --replace answer=new_answer
//# ask: x => 1 | 2
#ifdef PATCH
#ifdef MISSING
int no_such_function(void);
extern int no_such_variable;
int new_answer(void) { return no_such_function() + no_such_variable; }
#else
int new_answer(void) { return 2; }
#endif
#else
#include "talk.h"

#ifdef MORE
char more[1 << 16] = "another layout";
#endif
#ifdef OTHER
REPLACEABLE int answer(void) { return 1 + (getenv("OTHER") != 0); }
#else
REPLACEABLE int answer(void) { return 1; }
#endif

int main(void)
{
    ready();
    while (asked()) {
        if (!strcmp(question, "undumpable"))
            prctl(PR_SET_DUMPABLE, 0, 0, 0, 0);
        SAY("%d", answer());
    }
    return 0;
}
#endif
