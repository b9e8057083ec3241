/*
 * Threads that live for a moment: each calls `whole` and makes one more before it ends. The first thread sleeps, or has ended
 * ("leaves"). "execs": so many microseconds after it is told, another thread becomes sleep(1). Board: calls of the old version,
 * of the new one, calls that mixed them.
 */
//# flags: -O1 -pthread
//# option: --replace whole=new_whole
//# option: --replace part=new_part
#include "board.h"

static inline int twice(int (*part)(void))
{
    int first = part();
    for (int64_t begun = now(); now() - begun < 50000;)
        ;
    return part() == first ? first : 3;
}

#ifdef PATCH
int new_part(void) { return 2; }
int new_whole(void) { return twice(new_part); }
#else
#include "talk.h"
#include <pthread.h>

enum { FEW = 3, MANY = 8 };

static volatile uint64_t *board;

REPLACEABLE int part(void) { return 1; }
REPLACEABLE int whole(void) { return twice(part); }

static void *live(void *heir)
{
    static unsigned lives;
    pthread_t thread;
    __atomic_add_fetch(&board[whole() - 1], 1, __ATOMIC_RELAXED);
    usleep(__atomic_add_fetch(&lives, 1, __ATOMIC_RELAXED) % 3 * 30);
    while (pthread_create(&thread, heir, live, heir))
        ;
    return NULL;
}

static void *become(void *unused)
{
    if (asked() && usleep(atoi(question)) == 0)
        execlp("sleep", "sleep", "1000", NULL);
    return unused;
}

int main(int argc, char **argv)
{
    static pthread_attr_t heir;
    pthread_t thread;
    board = board_open(argv[argc - 1]);
    if (pthread_attr_init(&heir) || pthread_attr_setdetachstate(&heir, PTHREAD_CREATE_DETACHED))
        return 94;
    int execs = !strcmp(argv[1], "execs");
    for (int i = 0; i < (execs ? MANY : FEW); i++)
        if (pthread_create(&thread, &heir, live, &heir))
            return 95;
    if (execs && pthread_create(&thread, &heir, become, NULL))
        return 96;
    ready();
    if (!strcmp(argv[1], "leaves"))
        pthread_exit(NULL);
    for (;;)
        pause();
}
#endif
