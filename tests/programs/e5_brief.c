/*
 * Processes that share the memory come and go: each calls `whole` once. Board: calls of the old version, of the new one, calls that
 * mixed them, processes that ended in another way than by themselves.
 */
//# flags: -O1
//# option: --replace whole=new_whole
//# option: --replace part=new_part
#define _GNU_SOURCE
#include "board.h"

static inline int twice(int (*part)(void))
{
    int first = part();
    for (int64_t begun = now(); now() - begun < 1000000;)
        ;
    return part() == first ? first : 3;
}

#ifdef PATCH
int new_part(void) { return 2; }
int new_whole(void) { return twice(new_part); }
#else
#include "talk.h"
#include <sched.h>
#include <sys/wait.h>

enum { PAUSE_US = 3000 };

static volatile uint64_t *board;

REPLACEABLE int part(void) { return 1; }
REPLACEABLE int whole(void) { return twice(part); }

static int call_once(void *unused)
{
    (void)unused;
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    board[whole() - 1]++;
    _exit(0);
}

int main(int argc, char **argv)
{
    static char stack[65536];
    board = board_open(argv[argc - 1]);
    ready();
    for (int turn = 0;; turn++) {
        int status = 0;
        pid_t child = clone(call_once, stack + sizeof stack, CLONE_VM | (turn % 2 ? SIGCHLD : 0), NULL);
        if (child < 0 || waitpid(child, &status, __WALL) != child)
            return 95;
        board[3] += status != 0;
        usleep(PAUSE_US);
    }
}
#endif
