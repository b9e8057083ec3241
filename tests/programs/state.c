/*
 * A program that is always in the midst of something, in its only thread (but for "malloc"), and sees if that was
 * disturbed. Arguments: what it does; the board. Board: rounds, errors, results of both functions, calls that ended with
 * EINTR although no signal came (not an error: only a kill just behind the stop of a thread in epoll_wait does that).
 */
//# flags: -O2 -pthread
//# option: --replace answer=new_answer --replace second=new_second
#ifdef PATCH
int new_answer(void) { return 2; }
int new_second(void) { return 2; }
#else
#include "board.h"
#include "spin.h"
#include "talk.h"
#include <errno.h>
#include <immintrin.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/rseq.h>
#include <sys/syscall.h>
#include <sys/time.h>

enum { ROUNDS, ERRORS, VALUE, SECOND, BROKEN };
enum { WAIT_MS = 20, MALLOCS = 15 };

static const struct timespec WAIT = {0, WAIT_MS * 1000000L};
static volatile uint64_t *board;
static int silent[2], spoken[2], epoll;

REPLACEABLE int answer(void) { return 1; }
REPLACEABLE int second(void) { return 1; }

/* Each does something once; not 0: it was disturbed. */

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
    return !(read(spoken[0], &c, 1) == 1 && c == 'x');
}

static int in_epoll_wait(void)
{
    struct epoll_event event;
    int result = epoll_wait(epoll, &event, 1, WAIT_MS);
    if (result < 0 && errno == EINTR) {
        board[BROKEN]++;
        return 0;
    }
    return result;
}

/* A call that is to last WAIT_MS and not less. */
static int in_time(int (*call)(void))
{
    int64_t start = now();
    uint64_t broken = board[BROKEN];
    int wrong = call();
    return wrong || (now() - start < WAIT.tv_nsec && broken == board[BROKEN]);
}

static int nanosleeps(void) { return in_time(in_nanosleep); }
static int polls(void) { return in_time(in_poll); }
static int futexes(void) { return in_time(in_futex); }
static int epolls(void) { return in_time(in_epoll_wait); }

static int red_zone(void)
{
    static long seed;
    return spin(seed += 0x123456789, 1000000) != 0;
}

/*
 * A restartable sequence that takes its time. 0: it came to its end, and the kernel still knew of it there; 1: it was
 * aborted, as it should be if it was interrupted; 2: the kernel had forgotten it, so an interruption was missed.
 */
static int sequence(volatile uint64_t *current)
{
    int result;
    __asm__ volatile(
        ".pushsection __rseq_cs, \"aw\"\n.balign 32\n3: .long 0, 0\n.quad 1f, 2f - 1f, 4f\n.popsection\n"
        "  lea 3b(%%rip), %%rax; mov %%rax, %[current]\n"
        "1: mov $200000, %%ecx\n"
        "5: pause; dec %%ecx; jnz 5b\n"
        "  xor %%edx, %%edx; cmp %%rax, %[current]; je 6f; mov $2, %%edx\n"
        "6: mov %%edx, %[result]\n"
        "2: jmp 7f\n"
        "  .byte 0x0f, 0xb9, 0x3d; .long 0x53053053\n" /* RSEQ_SIG, wrapped in an undefined instruction */
        "4: movl $1, %[result]\n"
        "7: movq $0, %[current]\n"
        : [result] "=m"(result), [current] "+m"(*current)
        :
        : "rax", "rcx", "rdx", "memory", "cc");
    return result;
}

static int sequences(void)
{
    char *area = (char *)__builtin_thread_pointer() + __rseq_offset;
    return sequence((void *)(area + offsetof(struct rseq, rseq_cs))) == 2;
}

__attribute__((target("avx512f"))) static int wide(long seed)
{
    long lanes[8] __attribute__((aligned(64)));
    __m512i a = _mm512_set1_epi64(seed), one = _mm512_set1_epi64(1);
    __mmask8 all = 0xff;
    for (long n = 0; n < 100000; n++)
        __asm__ volatile("vpaddq %1, %0, %0%{%2%}" : "+v"(a) : "v"(one), "Yk"(all));
    _mm512_store_si512(lanes, a);
    int wrong = 0;
    for (int i = 0; i < 8; i++)
        wrong |= lanes[i] != seed + 100000;
    return wrong;
}

__attribute__((target("avx2"))) static int less_wide(long seed)
{
    long lanes[4] __attribute__((aligned(32)));
    __m256i a = _mm256_set1_epi64x(seed), one = _mm256_set1_epi64x(1);
    for (long n = 0; n < 100000; n++)
        __asm__ volatile("vpaddq %1, %0, %0" : "+x"(a) : "x"(one));
    _mm256_store_si256((__m256i *)lanes, a);
    return lanes[0] != seed + 100000 || lanes[1] != lanes[0] || lanes[2] != lanes[0] || lanes[3] != lanes[0];
}

static int vectors(void)
{
    static long seed;
    seed += 0x123456789;
    return __builtin_cpu_supports("avx512f") ? wide(seed) : __builtin_cpu_supports("avx2") ? less_wide(seed) : 0;
}

/* A timer fires every 500 us; the handler runs on the alternate stack. The mask and that stack stay what they are. */

static stack_t own_stack = {.ss_size = 65536};
static sigset_t own_mask;

static void handler(int signal)
{
    char here, *low = own_stack.ss_sp;
    (void)signal;
    for (volatile int n = 20000; n; n--)
        ;
    board[ERRORS] += !(&here > low && &here < low + own_stack.ss_size);
}

static int alarms(void)
{
    sigset_t mask;
    stack_t stack;
    for (volatile int n = 1000000; n; n--)
        ;
    sigprocmask(SIG_SETMASK, 0, &mask);
    sigaltstack(0, &stack);
    int wrong = stack.ss_sp != own_stack.ss_sp || stack.ss_size != own_stack.ss_size || stack.ss_flags != 0;
    for (int signal = 1; signal < NSIG; signal++)
        wrong |= signal != 32 && signal != 33 && sigismember(&mask, signal) != sigismember(&own_mask, signal);
    return wrong;
}

static void begin_alarms(void)
{
    struct sigaction action = {.sa_handler = handler, .sa_flags = SA_ONSTACK};
    struct itimerval often = {{0, 500}, {0, 500}};
    own_stack.ss_sp = mmap(0, own_stack.ss_size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    sigaltstack(&own_stack, 0);
    sigaction(SIGALRM, &action, 0);
    sigfillset(&own_mask);
    sigdelset(&own_mask, SIGALRM);
    sigprocmask(SIG_SETMASK, &own_mask, 0);
    sigprocmask(SIG_SETMASK, 0, &own_mask); /* without SIGKILL and SIGSTOP */
    setitimer(ITIMER_REAL, &often, 0);
}

/* Blocks come and go, and each is found as it was left. */
static int mallocs(void)
{
    static __thread unsigned char *blocks[64];
    static __thread unsigned next = 12345;
    int wrong = 0;
    for (int n = 0; n < 2000; n++) {
        next = next * 1103515245 + 12345;
        unsigned char **block = &blocks[next >> 26];
        if (*block) {
            size_t size = 16 + (*block)[0] * 40;
            wrong |= (*block)[1] != (*block)[0] || (*block)[size - 1] != (*block)[0];
            free(*block);
            *block = 0;
        } else {
            unsigned char kind = next >> 16;
            size_t size = 16 + kind * 40;
            *block = malloc(size);
            memset(*block, kind, size);
        }
    }
    return wrong;
}

static int started;

static void *more_mallocs(void *arg)
{
    __atomic_add_fetch(&started, 1, __ATOMIC_RELAXED);
    for (;;)
        if (mallocs())
            __atomic_add_fetch(&board[ERRORS], 1, __ATOMIC_RELAXED);
    return arg;
}

static void begin_mallocs(void)
{
    pthread_t thread;
    for (int i = 0; i < MALLOCS; i++)
        pthread_create(&thread, 0, more_mallocs, 0);
    /* While a thread is being born, its signals are blocked. */
    while (__atomic_load_n(&started, __ATOMIC_RELAXED) < MALLOCS)
        sched_yield();
}

/* Another process writes: its memory is its own. */
static void begin_reads(void)
{
    if (fork() == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        for (;;) {
            nanosleep(&WAIT, 0);
            if (write(spoken[1], "x", 1) != 1)
                _exit(92);
        }
    }
}

static const struct {
    const char *name;
    int (*round)(void);
    void (*begin)(void);
} kinds[] = {
    {"nanosleep", nanosleeps, 0},
    {"poll", polls, 0},
    {"futex", futexes, 0},
    {"read", in_read, begin_reads},
    {"epoll_wait", epolls, 0},
    {"red-zone", red_zone, 0},
    {"vectors", vectors, 0},
    {"sequences", sequences, 0},
    {"alarms", alarms, begin_alarms},
    {"malloc", mallocs, begin_mallocs},
};

int main(int argc, char **argv)
{
    size_t kind = 0;
    board = board_open(argv[argc - 1]);
    epoll = epoll_create1(0);
    while (strcmp(kinds[kind].name, argv[1]) != 0)
        if (++kind == sizeof kinds / sizeof *kinds)
            return 93;
    if (pipe(silent) || pipe(spoken) || epoll < 0)
        return 94;
    if (kinds[kind].begin)
        kinds[kind].begin();
    ready();
    for (;;) {
        if (kinds[kind].round())
            __atomic_add_fetch(&board[ERRORS], 1, __ATOMIC_RELAXED);
        board[VALUE] = answer();
        board[SECOND] = second();
        board[ROUNDS]++;
    }
}
#endif
