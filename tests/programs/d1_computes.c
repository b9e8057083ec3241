/*
 * One thread waits again and again, with a timeout. Asked to "compute", another one computes inside the function to be replaced
 * until the first has waited 10 times. Board: how often it has waited.
 */
//# flags: -O2 -pthread
//# option: --replace compute=new_compute
#ifdef PATCH
int new_compute(void) { return 2; }
#else
#include "board.h"
#include "talk.h"
#include <pthread.h>
#include <sys/epoll.h>

enum { WAIT_MS = 150, WAITS = 10 };

static volatile uint64_t *board;
static volatile int enough;

REPLACEABLE int compute(void)
{
    while (board[0] < (uint64_t)enough)
        ;
    return 1;
}

static void *wait_often(void *arg)
{
    struct epoll_event event;
    int epoll = epoll_create1(0);
    for (;;) {
        if (epoll_wait(epoll, &event, 1, WAIT_MS) != 0)
            _exit(96);
        board[0]++;
    }
    return arg;
}

static void *compute_once(void *arg)
{
    SAY("computing");
    SAY("%d", compute());
    return arg;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    board = board_open(argv[argc - 1]);
    pthread_create(&thread, 0, wait_often, 0);
    ready();
    while (asked()) {
        enough = (int)board[0] + WAITS;
        pthread_create(&thread, 0, compute_once, 0);
    }
    return 0;
}
#endif
