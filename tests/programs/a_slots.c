/*
 * The program and its library call the same functions, each through slots of its own: `shape` of a third object (BASE),
 * `strlen`, which is an IFUNC, and `getenv`, which only the program calls.
 */
#ifdef PATCH
#include <stdlib.h>
#include <string.h>

int shape(int x);

int new_slow(int x) { return 100 + x; }
int new_answer(int x) { return 5000 + shape(x); }
int new_shape(int x) { return 1000 + shape(x); }
size_t new_strlen(const char *s) { return 1000 + strlen(s); }
size_t other_strlen(const char *s) { return 2000 + strlen(s); }
static char *hidden(const char *name) { return getenv(name) ? 0 : "patched"; }
char *new_getenv(const char *name) { return hidden(name); }
#elif defined BASE
#include <unistd.h>

int shape(int x) { return x + 1; }

/* Found at its first call, and that takes as long as the test wants. */
volatile int held;
static int plain(int x) { return x + 7; }
static int (*choose(void))(int)
{
    while (held)
        usleep(1000);
    return plain;
}
int slow(int x) __attribute__((ifunc("choose")));
#elif defined LIBRARY
#include <stdlib.h>
#include <string.h>

int shape(int x);
int library_shape(int x) { return shape(x); }
int library_strlen(const char *s) { return strlen(s); }
int (*library_pointer(void))(int) { return shape; }
extern char **environ;
char *library_variable(void) { return environ[0]; }
#else
#include "talk.h"
#include <pthread.h>

extern volatile int held;
int slow(int x);
int shape(int x);
int library_shape(int x);
int library_strlen(const char *s);
int (*library_pointer(void))(int);

/* An address in data, which no slot is. */
int (*volatile kept)(int) = shape;

REPLACEABLE static int (*pointer(void))(int) { return shape; }
REPLACEABLE static int by_pointer(int x) { return pointer()(x); }

static pthread_t binder;

static void *call_slow(void *result)
{
    *(int *)result = slow(1);
    return 0;
}

REPLACEABLE int answer(int x) { return x % 100 + 40; }

int main(void)
{
    static int result;
    ready();
    while (asked()) {
        if (!strcmp(question, "keep"))
            SAY("%d", (kept = pointer())(1));
        else if (!strcmp(question, "kept"))
            SAY("%d", kept(1));
        else if (!strcmp(question, "direct"))
            SAY("%d", shape(1));
        else if (!strcmp(question, "bind")) {
            held = 1;
            SAY("%d", pthread_create(&binder, 0, call_slow, &result));
        } else if (!strcmp(question, "release")) {
            held = 0;
            pthread_join(binder, 0);
            SAY("%d", result);
        } else if (!strcmp(question, "slow"))
            SAY("%d", slow(1));
        else if (!strcmp(question, "answer"))
            SAY("%d", answer(1));
        else if (!strcmp(question, "env"))
            SAY("%s", getenv("A_SLOTS") ? "set" : "unset");
        else
            SAY("%d %d %d %d | %d %d", shape(1), by_pointer(1), library_shape(1), library_pointer()(1), (int)strlen("four"),
                library_strlen("four"));
    }
    return 0;
}
#endif
