/* A field was inserted and another one made wider; a bit-field moved, and an enumerator has another value. */
//# flags: -O2
//# option: --replace state_of=new_state_of
//# finds: struct session has 24 bytes in the target and 32 in the patch
//# finds: +4 int state (4 bytes) in the target, +8 long int state (8 bytes) in the patch
//# finds: +16.0 unsigned int busy (1 bit) in the target, +24.1 unsigned int busy (1 bit) in the patch
//# finds: +8 char *name (8 bytes) in the target, +16 char *name (8 bytes) in the patch
//# finds: enum colour is not the same in the target and in the patch
//# finds: GREEN is 1 in the target, 2 in the patch
#include "talk.h"
#ifdef PATCH
enum colour { RED, BLUE, GREEN };
struct session {
    int id;
    long state;
    char *name;
    unsigned early : 1, busy : 1;
    enum colour colour;
};
long new_state_of(struct session *s) { return s->busy ? s->colour : s->state; }
#else
enum colour { RED, GREEN };
struct session {
    int id;
    int state;
    char *name;
    unsigned busy : 1;
    enum colour colour;
};
REPLACEABLE long state_of(struct session *s) { return s->busy ? s->colour : s->state; }

int main(void)
{
    struct session session = {1, 2, question, 0, GREEN};
    ready();
    while (asked())
        SAY("%ld", state_of(&session));
    return 0;
}
#endif
