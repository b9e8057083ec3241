/* Threads are made and end without pause, beside many that sleep. Board: threads that ended, wrong results; then old, new results. */
//# flags: -O2 -pthread
//# option: --replace answer=new_answer
#ifdef PATCH
int new_answer(int x) { return x + 2; }
#else
#include "board.h"
#include "talk.h"
#include <pthread.h>

enum { STORMS = 3, ROUNDS = 0, ERRORS, OLD, NEW };

static volatile uint64_t *board;
static pthread_attr_t small;
static pthread_mutex_t closed = PTHREAD_MUTEX_INITIALIZER;

REPLACEABLE int answer(int x) { return x + 1; }

static void *brief(void *arg)
{
    int result = answer(40);
    __atomic_add_fetch(&board[result == 41 ? OLD : result == 42 ? NEW : ERRORS], 1, __ATOMIC_RELAXED);
    return arg;
}

/* Half of the threads are joined, the others end whenever they like. */
static void *storm(void *arg)
{
    for (unsigned n = 0;; n++) {
        pthread_t thread;
        if (pthread_create(&thread, &small, brief, 0) != 0)
            continue;
        if (n % 2)
            pthread_join(thread, 0);
        else
            pthread_detach(thread);
        __atomic_add_fetch(&board[ROUNDS], 1, __ATOMIC_RELAXED);
    }
    return arg;
}

static void *sleeper(void *arg)
{
    pthread_mutex_lock(&closed);
    return arg;
}

/* Arguments: how many sleep; the board. */
int main(int argc, char **argv)
{
    pthread_t thread;
    board = board_open(argv[argc - 1]);
    pthread_attr_init(&small);
    pthread_attr_setstacksize(&small, 65536);
    pthread_mutex_lock(&closed);
    for (int i = 0; i < atoi(argv[1]); i++)
        if (pthread_create(&thread, &small, sleeper, 0) != 0)
            return 94;
    for (int i = 0; i < STORMS; i++)
        pthread_create(&thread, 0, storm, 0);
    ready();
    while (asked())
        SAY("%d", answer(40));
    return 0;
}
#endif
