/*
 * A variable says which of two ways to go ("way"); the program changes it itself ("set", "unset"). It keeps ("keep") what a function has
 * returned, until it is told to "forget" it.
 */
//# flags: -O1
#ifdef PATCH
int new_work(void) { return 20; }
int new_other(void) { return 200; }
const char *new_name(void) { return "the new one"; }
#else
#include "talk.h"

static const char *kept;

const char *one(void) { return "one"; }
const char *another(void) { return "another"; }
const char *(*way)(void) = one;

REPLACEABLE int work(void) { return 10; }
REPLACEABLE int other(void) { return 100; }
REPLACEABLE const char *name(void) { return "the old one"; }

int main(void)
{
    ready();
    while (asked()) {
        if (!strcmp(question, "keep")) {
            kept = name();
            SAY("%s", way());
        } else if (!strcmp(question, "forget")) {
            SAY("%s", kept);
            kept = NULL;
        } else if (!strcmp(question, "set")) {
            way = another;
            SAY("set");
        } else if (!strcmp(question, "unset")) {
            way = one;
            SAY("unset");
        } else if (!strcmp(question, "way")) {
            SAY("%s", way());
        } else {
            SAY("%d", work() + other());
        }
    }
}
#endif
