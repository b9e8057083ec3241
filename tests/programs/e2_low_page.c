/* The lowest page of the program comes and goes all the time, as those of just-in-time compilers do. Board: how often. */
//# flags: -O2 -pthread
//# option: --replace answer=new_answer
#ifdef PATCH
int new_answer(void) { return 2; }
#else
#define _GNU_SOURCE
#include "board.h"
#include "talk.h"
#include <pthread.h>

enum { PAGE = 4096 };

static volatile uint64_t *board;

REPLACEABLE int answer(void) { return 1; }

static void *come_and_go(void *arg)
{
    for (;;) {
        void *page = mmap(0, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_32BIT, -1, 0);
        if (page == MAP_FAILED || munmap(page, PAGE))
            _exit(95);
        board[0]++;
    }
    return arg;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    board = board_open(argv[argc - 1]);
    if (pthread_create(&thread, 0, come_and_go, 0))
        return 94;
    ready();
    while (asked())
        SAY("%d", answer());
    return 0;
}
#endif
