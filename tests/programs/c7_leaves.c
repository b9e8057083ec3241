/*
 * One thread sleeps in `f`, another one answers. "leave": the first thread ends. "end": the sleeping one does, with what `f`
 * returned. With an argument, nobody is in `f` until
 * "watch N": among many threads N wait until they are traced. Then they call vfork for one and a half seconds; in the middle of
 * it the other thread goes into `f`. One more thread notes the largest gap between two looks at the clock. "late": how many
 * have called vfork, how long the longest took and the gap, in milliseconds.
 */
//# flags: -O2 -pthread
//# option: --replace f=new_f
#ifdef PATCH
int new_f(void) { return 2; }
#else
#include "board.h"
#include "talk.h"
#include <fcntl.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/wait.h>
#include <unistd.h>

static sem_t end;
static volatile int stay = 1, enter = 1, leave, late, back, took, gap;

REPLACEABLE int f(void)
{
    if (stay)
        sem_wait(&end);
    return 1;
}

static void *call(void *unused)
{
    (void)unused;
    while (!enter)
        usleep(1000);
    return (void *)(intptr_t)f();
}

static void *sleep_on(void *unused)
{
    for (;;)
        pause();
    return unused;
}

static void *watch(void *unused)
{
    char text[4096] = "";
    int status = open("/proc/thread-self/status", O_RDONLY);
    for (const char *tracer = NULL; !tracer || tracer[11] == '0'; tracer = strstr(text, "TracerPid:\t"))
        if (pread(status, text, sizeof text - 1, 0) <= 0)
            abort();
    int64_t before = now();
    __sync_fetch_and_add(&late, 1);
    pid_t child = vfork();
    if (child == 0) {
        usleep(600000);
        enter = 1; /* in the memory of the parent */
        usleep(900000);
        _exit(0);
    }
    int ms = (now() - before) / 1000000;
    if (ms > took)
        took = ms;
    __sync_fetch_and_add(&back, 1);
    waitpid(child, NULL, 0);
    return unused;
}

static void *look_at_the_clock(void *unused)
{
    for (int64_t last = now();;) {
        int64_t t = now();
        if ((t - last) / 1000000 > gap)
            gap = (t - last) / 1000000;
        last = t;
    }
    return unused;
}

static void *answer(void *worker)
{
    pthread_t thread;
    while (asked()) {
        if (!strcmp(question, "leave")) {
            leave = 1;
            SAY("leaving");
        } else if (!strncmp(question, "watch ", 6)) {
            for (int i = 0; i < 200; i++)
                pthread_create(&thread, NULL, sleep_on, NULL);
            for (int i = 0; i < atoi(question + 6); i++)
                pthread_create(&thread, NULL, watch, NULL);
            SAY("%d", pthread_create(&thread, NULL, look_at_the_clock, NULL));
        } else if (!strcmp(question, "late")) {
            while (back < late)
                usleep(1000);
            SAY("%d %d %d", late, took, gap);
        } else if (!strcmp(question, "end")) {
            void *result;
            stay = 0;
            sem_post(&end);
            pthread_join(*(pthread_t *)worker, &result);
            SAY("%d", (int)(intptr_t)result);
        } else {
            SAY("%d", f());
        }
    }
    _exit(0);
}

int main(int argc, char **argv)
{
    static pthread_t worker;
    pthread_t talker;
    (void)argv;
    enter = argc == 1;
    if (pthread_create(&worker, NULL, call, NULL) || pthread_create(&talker, NULL, answer, &worker))
        return 94;
    ready();
    while (!leave)
        usleep(1000);
    pthread_exit(NULL);
}
#endif
