/*
 * Threads that make threads slowly: each of these is to have file descriptors of its own, and the kernel copies thousands of them
 * before the new thread is there. It calls `whole` and ends. Board: calls of the old version, of the new one, calls that mixed
 * them.
 */
//# flags: -O1 -pthread
//# option: --replace whole=new_whole
//# option: --replace part=new_part
#define _GNU_SOURCE
#include "board.h"

/* The new function of `whole` calls the new one of `part` twice, and the old one the old one. */
static inline int twice(int (*part)(void))
{
    int first = part();
    for (int64_t begun = now(); now() - begun < 2000000;)
        ;
    return part() == first ? first : 3;
}

#ifdef PATCH
int new_part(void) { return 2; }
int new_whole(void) { return twice(new_part); }
#else
#include "talk.h"
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

enum { DESCRIPTORS = 60000, STACK = 65536, MAKERS = 2 };

static volatile uint64_t *board;

REPLACEABLE int part(void) { return 1; }
REPLACEABLE int whole(void) { return twice(part); }

static int live(void *unused)
{
    (void)unused;
    __atomic_add_fetch(&board[whole() - 1], 1, __ATOMIC_RELAXED);
    return 0;
}

static void *make(void *unused)
{
    char *stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    while (stack != MAP_FAILED) {
        int flags = CLONE_VM | CLONE_FS | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM;
        int tid = clone(live, stack + STACK, flags, NULL);
        while (tid > 0 && !tgkill(getpid(), tid, 0))
            ;
    }
    return unused;
}

int main(int argc, char **argv)
{
    struct rlimit limit = {DESCRIPTORS, DESCRIPTORS};
    pthread_t thread;
    board = board_open(argv[argc - 1]);
    /* Who may not have so many has as many as may be. */
    if (setrlimit(RLIMIT_NOFILE, &limit) && !getrlimit(RLIMIT_NOFILE, &limit)) {
        limit.rlim_cur = limit.rlim_max;
        setrlimit(RLIMIT_NOFILE, &limit);
    }
    for (int i = 0; i < DESCRIPTORS && dup(2) >= 0; i++)
        ;
    for (int i = 0; i < MAKERS; i++)
        if (pthread_create(&thread, NULL, make, NULL))
            return 95;
    ready();
    for (;;)
        pause();
}
#endif
