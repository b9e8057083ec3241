/* One thread each in read, nanosleep, poll and futex. Board: rounds, errors, early returns, of each; then latest, us. */
//# flags: -O2 -pthread
//# option: --replace answer=new_answer
#ifdef PATCH
int new_answer(void) { return 2; }
#else
#include "board.h"
#include "talk.h"
#include <errno.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sys/syscall.h>

enum { WAIT_MS = 200 /* many applies in each call */, FIELDS = 4, ROUNDS = 0, ERRORS, EARLY, LATEST_US };

static volatile uint64_t *board;
static int pipes[2], silent[2];

REPLACEABLE int answer(void) { return 1; }

static const struct timespec WAIT = {0, WAIT_MS * 1000000L};

/* Each returns 0 if the call ended as it does without anybody interfering. */
static int in_nanosleep(void) { return nanosleep(&WAIT, 0); }
static int in_poll(void)
{
    struct pollfd fd = {silent[0], POLLIN, 0};
    return poll(&fd, 1, WAIT_MS);
}
static int in_futex(void)
{
    static uint32_t word = 1;
    return !(syscall(SYS_futex, &word, FUTEX_WAIT, 1, &WAIT, 0, 0) == -1 && errno == ETIMEDOUT);
}
static int in_read(void)
{
    char c = 0;
    return !(read(pipes[0], &c, 1) == 1 && c == 'x');
}

static int (*const calls[])(void) = {in_read, in_nanosleep, in_poll, in_futex};

static void *loop(void *arg)
{
    long which = (long)(intptr_t)arg;
    volatile uint64_t *mine = board + which * FIELDS;
    for (;;) {
        int64_t start = now();
        int error = calls[which]();
        int64_t us = (now() - start) / 1000;
        if (error)
            mine[ERRORS]++;
        if (which != 0 && us < WAIT_MS * 1000) /* the writer decides when read returns */
            mine[EARLY]++;
        if ((uint64_t)us > mine[LATEST_US])
            mine[LATEST_US] = us;
        mine[ROUNDS]++;
    }
    return 0;
}

static void *writer(void *arg)
{
    for (;;) {
        nanosleep(&WAIT, 0);
        if (write(pipes[1], "x", 1) != 1)
            _exit(92);
    }
    return arg;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    board = board_open(argv[argc - 1]);
    if (pipe(pipes) || pipe(silent))
        return 93;
    for (intptr_t which = 0; which < 4; which++)
        pthread_create(&thread, 0, loop, (void *)which);
    pthread_create(&thread, 0, writer, 0);
    ready();
    while (asked())
        SAY("%d", answer());
    return 0;
}
#endif
