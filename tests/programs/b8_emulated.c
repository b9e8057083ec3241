/*
 * What `clang -femulated-tls` makes of `__thread int calls = 40;` in the patch (gcc has no such option): ordinary data
 * that libgcc_s copies for each thread at its first use.
 */
//# flags: -O2 -pthread -Wl,--no-as-needed -lgcc_s
//# patch-flags: -Wl,--no-as-needed -lgcc_s
//# option: --replace answer=new_answer
//# ask: main => 0 | 41
//# ask: main => 0 | 42
//# ask: thread => 0 0 | 41 42
//# ask: main => 0 | 43
#ifdef PATCH
#include <stddef.h>
struct control {
    size_t size, align;
    void *object;
    const void *start;
};
extern void *__emutls_get_address(struct control *);
static const int start = 40;
static struct control calls = {sizeof(int), _Alignof(int), 0, &start};

int new_answer(void) { return ++*(int *)__emutls_get_address(&calls); }
#else
#include "talk.h"
#include <pthread.h>
#include <semaphore.h>
REPLACEABLE int answer(void) { return 0; }

static sem_t leave, used;

/* Uses the variable, and ends when it is told to. */
static void *stays(void *text)
{
    sprintf(text, "%d", answer());
    wipe_stack();
    sem_post(&used);
    sem_wait(&leave);
    return text;
}

static void *twice(void *text)
{
    void *volatile memory = malloc(1); /* what a thread allocates from, too, must be there before the patch is */
    free(memory);
    int first = answer();
    sprintf(text, "%d %d", first, answer());
    return text;
}

int main(void)
{
    char text[40];
    pthread_t thread, other;
    sem_init(&leave, 0, 0);
    sem_init(&used, 0, 0);
    /* libc keeps the stack of an ended thread for the next one: it must be there before the patch is. */
    if (pthread_create(&thread, 0, twice, text) || pthread_join(thread, 0))
        return 1;
    ready();
    while (asked()) {
        if (!strcmp(question, "main"))
            sprintf(text, "%d", answer());
        else if (!strcmp(question, "stay"))
            pthread_create(&other, 0, stays, text), sem_wait(&used);
        else if (!strcmp(question, "leave"))
            sem_post(&leave), pthread_join(other, 0), strcpy(text, "left");
        else if (pthread_create(&thread, 0, twice, text) || pthread_join(thread, 0))
            return 1;
        SAY("%s", text);
    }
    return 0;
}
#endif
