/*
 * Threads wait, and get signals all the time that the program ignores: these do not break off what they wait for. The first thread
 * calls `answer` now and then. Board: calls of the waiting threads that ended early, calls of `answer`.
 */
//# flags: -O2 -pthread
//# option: --replace answer=new_answer
#ifdef PATCH
#include <time.h>
int new_answer(void)
{
    const struct timespec nap = {0, 500000};
    nanosleep(&nap, 0);
    return 2;
}
#else
#include "board.h"
#include "talk.h"
#include <pthread.h>
#include <sys/epoll.h>

enum { THREADS = 100, EARLY = 0, CALLS, PAUSE_US = 1000 };

static volatile uint64_t *board;
static pthread_t waiting[THREADS];

REPLACEABLE int answer(void)
{
    const struct timespec nap = {0, 500000};
    nanosleep(&nap, 0);
    return 1;
}

static void *wait_for_ever(void *arg)
{
    struct epoll_event event;
    int epoll = epoll_create1(0);
    for (;;) {
        epoll_wait(epoll, &event, 1, -1);
        __atomic_add_fetch(&board[EARLY], 1, __ATOMIC_RELAXED);
    }
    return arg;
}

static void *send(void *arg)
{
    for (;; usleep(PAUSE_US))
        for (int i = 0; i < THREADS; i++)
            pthread_kill(waiting[i], SIGWINCH);
    return arg;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    board = board_open(argv[argc - 1]);
    for (int i = 0; i < THREADS; i++)
        if (pthread_create(&waiting[i], 0, wait_for_ever, 0))
            return 94;
    if (pthread_create(&thread, 0, send, 0))
        return 95;
    ready();
    for (;; usleep(PAUSE_US))
        board[CALLS] += answer() != 0;
}
#endif
