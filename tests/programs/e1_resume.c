/*
 * A seccomp filter kills the program for restart_syscall, by which the kernel resumes a sleep after a stop. Board: sleeps, those that
 * ended early.
 */
//# flags: -O2 -pthread
//# option: --replace answer=new_answer
#ifdef PATCH
int new_answer(void) { return 2; }
#else
#include "board.h"
#include "talk.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/syscall.h>

enum { SLEEP_MS = 50 };

static volatile uint64_t *board;

REPLACEABLE int answer(void) { return 1; }

static void *sleep_often(void *arg)
{
    const struct timespec time = {0, SLEEP_MS * 1000000L};
    for (;;) {
        board[1] += nanosleep(&time, 0) != 0;
        board[0]++;
    }
    return arg;
}

int main(int argc, char **argv)
{
    static struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_restart_syscall, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    static struct sock_fprog program = {sizeof filter / sizeof *filter, filter};
    pthread_t thread;
    board = board_open(argv[argc - 1]);
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        return 94;
    for (int i = 0; i < 4; i++)
        if (pthread_create(&thread, 0, sleep_often, 0))
            return 95;
    ready();
    while (asked())
        SAY("%d", answer());
    return 0;
}
#endif
