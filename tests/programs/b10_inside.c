/*
 * A thread that waits for its input where it holds what the unwinder needs: in a callback of the unwinder, or in a signal
 * handler that has interrupted the allocator, while another thread waits for the allocator's lock.
 */
//# flags: -O2 -pthread -Wl,--no-as-needed -lgcc_s
//# option: --replace answer=new_answer
#ifdef PATCH
int new_answer(void) { return 2; }
#else
#include "talk.h"
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/time.h>
#include <ucontext.h>
#include <unistd.h>
#include <unwind.h>

REPLACEABLE int answer(void) { return 1; }

/* Neither the allocator nor stdio: says `inside`, and comes back after the next line. */
static void stay(void)
{
    char byte = 0;
    if (write(1, "inside\n", 7) != 7)
        _exit(1);
    while (byte != '\n' && read(0, &byte, 1) == 1)
        ;
}

static _Unwind_Reason_Code callback(struct _Unwind_Context *frame, void *asked)
{
    if (_Unwind_GetIP(frame) && !*(int *)asked) {
        *(int *)asked = 1;
        stay();
    }
    return _URC_NO_REASON;
}

static volatile int done, other;

/* Whether the other thread waits for a lock: FUTEX_WAIT_PRIVATE. In `allocates` that can only be the allocator's. */
static int other_waits(void)
{
    char path[64], text[64] = "";
    snprintf(path, sizeof path, "/proc/self/task/%d/syscall", other);
    int file = open(path, O_RDONLY);
    ssize_t size = read(file, text, sizeof text - 1);
    unsigned long operation = 0;
    close(file);
    return size > 0 && sscanf(text, "202 %*x %lx", &operation) == 1 && operation == 0x80;
}

static void allocate(void)
{
    void *volatile some = malloc(5000);
    free(some);
}

static void *allocates(void *none)
{
    other = gettid();
    while (!done)
        allocate();
    return none;
}

/* Not periodic: a signal that is pending when its handler ends would interrupt the same instruction again. */
static void wind(void)
{
    struct itimerval soon = {{0, 0}, {0, 1000}};
    setitimer(ITIMER_REAL, &soon, NULL);
}

/* The interrupted thread is in the allocator, and has its lock, if another one waits for it. */
static void tick(int signal, siginfo_t *info, void *context)
{
    int64_t distance = ((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] - (int64_t)malloc;
    int allocating = -(64 << 10) < distance && distance < 64 << 10 && other;
    (void)signal, (void)info;
    for (int i = 0; allocating && i < 100 && !other_waits(); i++)
        usleep(250);
    if (allocating && other_waits()) {
        stay();
        done = 1;
    } else {
        wind();
    }
}

int main(void)
{
    int asked_before = 0;
    pthread_t thread;
    setvbuf(stdin, NULL, _IONBF, 0);
    mallopt(M_ARENA_MAX, 1);
    ready();
    while (asked()) {
        if (!strcmp(question, "unwind")) {
            asked_before = 0;
            _Unwind_Backtrace(callback, &asked_before);
        } else if (!strcmp(question, "allocate")) {
            struct sigaction action = {.sa_sigaction = tick, .sa_flags = SA_SIGINFO | SA_RESTART};
            sigset_t alarm;
            sigemptyset(&alarm);
            sigaddset(&alarm, SIGALRM);
            pthread_sigmask(SIG_BLOCK, &alarm, NULL);
            pthread_create(&thread, NULL, allocates, NULL);
            pthread_sigmask(SIG_UNBLOCK, &alarm, NULL);
            sigaction(SIGALRM, &action, NULL);
            wind();
            while (!done)
                allocate();
            pthread_join(thread, NULL);
        } else if (!strcmp(question, "another")) {
            pthread_create(&thread, NULL, (void *(*)(void *))pause, NULL);
        }
        wipe_stack();
        SAY("%d", answer());
    }
    return 0;
}
#endif
