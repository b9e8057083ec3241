/*
 * Queued real-time signals: another process sends them, each with its number, while this one computes, sleeps and is
 * patched. Board: signals that came, signals that came out of order or twice.
 */
//# flags: -O2 -pthread
//# option: --replace answer=new_answer
#ifdef PATCH
int new_answer(void) { return 2; }
#else
#include "board.h"
#include "talk.h"
#include <errno.h>
#include <sys/wait.h>

enum { CAME, WRONG };

static volatile uint64_t *board;

REPLACEABLE int answer(void) { return 1; }

static void handler(int signal, siginfo_t *info, void *context)
{
    (void)signal, (void)context;
    board[WRONG] += (uint64_t)info->si_value.sival_int != board[CAME];
    board[CAME]++;
}

/* In a child: bursts of ten, so that several are queued at a time. */
static void send(pid_t to, int count)
{
    struct timespec t = {0, 2000000};
    for (int i = 0; i < count; i++) {
        while (sigqueue(to, SIGRTMIN, (union sigval){.sival_int = i}) != 0)
            if (errno != EAGAIN)
                _exit(98);
        if (i % 10 == 9)
            nanosleep(&t, 0);
    }
    _exit(0);
}

int main(int argc, char **argv)
{
    struct sigaction action = {.sa_sigaction = handler, .sa_flags = SA_SIGINFO | SA_RESTART};
    board = board_open(argv[argc - 1]);
    sigaction(SIGRTMIN, &action, 0);
    ready();
    while (asked()) {
        if (!strncmp(question, "send ", 5)) {
            pid_t me = getpid();
            if (fork() == 0)
                send(me, atoi(question + 5));
            SAY("sending");
        } else {
            SAY("%d", answer());
        }
    }
    wait(0);
    return 0;
}
#endif
