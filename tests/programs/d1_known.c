/*
 * One thread each in epoll_wait, sigtimedwait, accept and recv with a timeout: calls that any stop of the kernel breaks, or
 * that wait for somebody else. Board: rounds, errors, early returns, latest (us) of each.
 */
//# flags: -O2 -pthread
//# option: --replace answer=new_answer
#ifdef PATCH
int new_answer(void) { return 2; }
#else
#include "board.h"
#include "talk.h"
#include <errno.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>

enum { WAIT_MS = 150, CALLS = 4, FIELDS = 4, ROUNDS = 0, ERRORS, EARLY, LATEST_US };

static const struct timespec WAIT = {0, WAIT_MS * 1000000L};
static volatile uint64_t *board;
static int epoll, server, silent[2];
static struct sockaddr_un address = {AF_UNIX, {0}};

REPLACEABLE int answer(void) { return 1; }

/* Each returns 0 if the call ended as it does without anybody interfering. */
static int in_epoll_wait(void)
{
    struct epoll_event event;
    return epoll_wait(epoll, &event, 1, WAIT_MS);
}
static int in_sigtimedwait(void)
{
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    return !(sigtimedwait(&set, 0, &WAIT) == -1 && errno == EAGAIN);
}
static int in_accept(void)
{
    int fd = accept(server, 0, 0);
    return fd < 0 || close(fd);
}

static int in_recv(void)
{
    char c;
    return !(recv(silent[0], &c, 1, 0) == -1 && errno == EAGAIN);
}

static int (*const calls[CALLS])(void) = {in_epoll_wait, in_sigtimedwait, in_accept, in_recv};

static void *loop(void *arg)
{
    long which = (long)(intptr_t)arg;
    volatile uint64_t *mine = board + which * FIELDS;
    for (;;) {
        int64_t start = now();
        int error = calls[which]();
        int64_t us = (now() - start) / 1000;
        mine[ERRORS] += error != 0;
        mine[EARLY] += which != 2 && us < WAIT_MS * 1000;
        if ((uint64_t)us > mine[LATEST_US])
            mine[LATEST_US] = us;
        mine[ROUNDS]++;
    }
    return 0;
}

static void *client(void *arg)
{
    for (;;) {
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        nanosleep(&WAIT, 0);
        if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0 || close(fd) != 0)
            _exit(96);
    }
    return arg;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR2);
    pthread_sigmask(SIG_BLOCK, &set, 0);
    board = board_open(argv[argc - 1]);
    epoll = epoll_create1(0);
    server = socket(AF_UNIX, SOCK_STREAM, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s.sock", argv[argc - 1]);
    if (epoll < 0 || bind(server, (struct sockaddr *)&address, sizeof address) != 0 || listen(server, 8) != 0)
        return 97;
    const struct timeval timeout = {0, WAIT_MS * 1000};
    if (socketpair(AF_UNIX, SOCK_STREAM, 0, silent) || setsockopt(silent[0], SOL_SOCKET, SO_RCVTIMEO, &timeout, sizeof timeout))
        return 98;
    for (intptr_t which = 0; which < CALLS; which++)
        pthread_create(&thread, 0, loop, (void *)which);
    pthread_create(&thread, 0, client, 0);
    ready();
    while (asked())
        SAY("%d", answer());
    return 0;
}
#endif
