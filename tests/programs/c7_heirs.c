/*
 * The first thread has ended. Of those that are left each lives for a moment, and makes one more before it ends. Board: threads
 * made, how many of them called an old version, how many a new one.
 */
//# flags: -O1 -pthread
//# option: --replace answer=new_answer
#ifdef PATCH
int new_answer(void) { return 2; }
#else
#include "board.h"
#include "talk.h"
#include <pthread.h>

enum { LINES = 3, MADE = 0, OLD, NEW };

static volatile uint64_t *board;

REPLACEABLE int answer(void) { return 1; }

static void *live(void *heir)
{
    pthread_t thread;
    __atomic_add_fetch(&board[answer() == 1 ? OLD : NEW], 1, __ATOMIC_RELAXED);
    usleep(__atomic_add_fetch(&board[MADE], 1, __ATOMIC_RELAXED) % 7 * 100);
    while (pthread_create(&thread, heir, live, heir))
        ;
    return NULL;
}

int main(int argc, char **argv)
{
    static pthread_attr_t heir;
    pthread_t thread;
    board = board_open(argv[argc - 1]);
    if (pthread_attr_init(&heir) || pthread_attr_setdetachstate(&heir, PTHREAD_CREATE_DETACHED))
        return 94;
    for (int i = 0; i < LINES; i++)
        if (pthread_create(&thread, &heir, live, &heir))
            return 95;
    ready();
    pthread_exit(NULL);
}
#endif
