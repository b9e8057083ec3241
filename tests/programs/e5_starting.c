/*
 * The dynamic linker is held up, by an IFUNC of the library, before it relocates the program: no slot of that holds an address yet.
 */
//# flags: -O1
//# option: --replace answer=new_answer --lib {lab}/libe5_starting.so
#ifdef PATCH
long a64l(const char *);
int new_answer(const char *number) { return 2 * (int)a64l(number); }
#elif defined LIBRARY
#include <sys/syscall.h>

/* A resolver may run before libc is ready. */
static long call(long nr, long fd, const void *bytes, long count)
{
    __asm__ volatile("syscall" : "+a"(nr) : "D"(fd), "S"(bytes), "d"(count) : "rcx", "r11", "memory");
    return nr;
}

static int start(void) { return 1; }

static int (*choose(void))(void)
{
    char c = 0;
    call(SYS_write, 1, "ready\n", 6);
    while (c != '\n' && call(SYS_read, 0, &c, 1) == 1)
        ;
    return start;
}

static int started(void) __attribute__((ifunc("choose")));
int (*start_by)(void) = started;
#else
#include "talk.h"

extern int (*start_by)(void);

REPLACEABLE int answer(const char *number) { return (int)a64l(number); } /* no inline function of a header */

int main(void)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    SAY("started %d", start_by());
    while (asked())
        SAY("%d", answer(question));
    return 0;
}
#endif
