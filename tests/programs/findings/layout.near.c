/* New names, typedefs, signs and const; an enumerator at the end; one more view in a union; another struct inside void. */
//# flags: -O2
//# option: --replace state_of=new_state_of
#include "talk.h"
struct opaque;
#ifdef PATCH
#include <stdint.h>
enum colour { RED, GREEN, BLUE };
typedef struct {
    int32_t x, y;
} point_t;
struct session {
    int32_t key;
    unsigned state;
    const char *name;
    unsigned busy : 1, late : 2;
    enum colour colour;
    union {
        long number;
        unsigned char bytes[8];
        double real;
    };
    point_t at;
    struct session *next;
    void *handler;
    struct opaque *hidden;
    int grid[6];
};
struct fresh {
    int a;
};
int new_state_of(const struct session *s)
{
    struct fresh fresh = {s->key};
    return s->busy ? (int)s->colour : (int)s->state + fresh.a + s->at.x + (int)s->number + s->grid[1] + !s->name;
}
#else
enum colour { RED, GREEN };
typedef struct {
    int x, y;
} point_t;
struct opaque {
    int a;
};
struct session {
    int id;
    int state;
    char *name;
    unsigned busy : 1, late : 2;
    enum colour colour;
    union {
        long number;
        char bytes[8];
    };
    point_t at;
    struct session *next;
    struct opaque *handler, *hidden;
    int grid[2][3];
};
REPLACEABLE int state_of(struct session *s)
{
    return s->busy ? (int)s->colour : s->state + s->at.x + (int)s->number + s->grid[0][1] + s->hidden->a;
}

int main(void)
{
    struct opaque opaque = {1};
    struct session session = {.id = 1, .name = question, .hidden = &opaque};
    ready();
    while (asked())
        SAY("%d", state_of(&session));
    return 0;
}
#endif
