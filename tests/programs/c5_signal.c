/* A signal handler that stays, on the stack that it interrupted or on its own one, while the function below it waits. */
//# flags: -O2 -pthread
//# option: --replace work=new_work
#ifdef PATCH
int new_work(int turns) { return turns ? 2 : 20; }
#else
#include "board.h"
#include "talk.h"
#include <pthread.h>
#include <sys/mman.h>

static volatile int in_work, in_handler, go_on;

/* 0: returns at once. Else it computes until it is told to end. */
REPLACEABLE int work(int turns)
{
    for (in_work = turns; in_work;)
        __asm__ volatile("pause");
    return turns ? 1 : 10;
}

static void handler(int signal)
{
    struct timespec t = {0, 1000000};
    (void)signal;
    for (in_handler = 1; !go_on;)
        nanosleep(&t, 0);
    in_handler = in_work = 0;
}

static void *worker(void *own)
{
    stack_t stack = {.ss_size = 65536};
    if (own) {
        stack.ss_sp = mmap(0, stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        sigaltstack(&stack, 0);
    }
    int result = work(1);
    SAY("worked %d", result);
    return 0;
}

static void wait_until(volatile int *flag)
{
    struct timespec t = {0, 1000000};
    while (!*flag)
        nanosleep(&t, 0);
}

int main(void)
{
    pthread_t thread;
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    sigaction(SIGUSR1, &action, 0);
    ready();
    while (asked()) {
        if (!strcmp(question, "same") || !strcmp(question, "own")) {
            go_on = 0;
            pthread_create(&thread, 0, worker, question[0] == 'o' ? question : 0);
            wait_until(&in_work);
            pthread_kill(thread, SIGUSR1);
            wait_until(&in_handler);
            SAY("in handler");
        } else if (!strcmp(question, "end")) {
            go_on = 1;
        } else {
            SAY("%d", work(0));
        }
    }
    return 0;
}
#endif
