/*
 * One thread computes; another one answers. "N": N microseconds later it gives all threads a seccomp filter that kills the process for
 * mmap.
 */
//# flags: -O2 -pthread
//# option: --replace answer=new_answer
#ifdef PATCH
int new_answer(void) { return 2; }
#else
#include "talk.h"
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

static volatile int said;

REPLACEABLE int answer(void) { return 1; }

static void *talk(void *unused)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_mmap, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    while (!said)
        usleep(100);
    ready();
    while (asked()) {
        if (atoi(question)) {
            usleep(atoi(question));
            if (syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, SECCOMP_FILTER_FLAG_TSYNC, &program) != 0)
                _exit(95);
        }
        SAY("%d", said);
    }
    _exit(0);
    return unused;
}

int main(void)
{
    pthread_t thread;
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 || pthread_create(&thread, NULL, talk, NULL) != 0)
        return 94;
    for (;;)
        said = answer();
}
#endif
