/* Two threads make threads and wait for them, without pause. Board: threads made, the longest that the first thread was late, in ns. */
//# flags: -O1 -pthread
//# option: --replace answer=new_answer
#ifdef PATCH
int new_answer(void) { return 2; }
#else
#include "board.h"
#include "talk.h"
#include <pthread.h>

enum { CREATORS = 2, MADE = 0, LATE };

static volatile uint64_t *board;

REPLACEABLE int answer(void) { return 1; }

static void *child(void *arg) { return arg; }

static void *creator(void *arg)
{
    pthread_t thread;
    for (;; __atomic_add_fetch(&board[MADE], 1, __ATOMIC_RELAXED))
        if (pthread_create(&thread, 0, child, 0) == 0)
            pthread_join(thread, 0);
    return arg;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    board = board_open(argv[argc - 1]);
    for (int i = 0; i < CREATORS; i++)
        pthread_create(&thread, 0, creator, 0);
    ready();
    for (;;) {
        int64_t begun = now();
        usleep(1000);
        uint64_t late = (uint64_t)(now() - begun - 1000000) + 0 * (uint64_t)answer();
        if (late > board[LATE])
            board[LATE] = late;
    }
}
#endif
