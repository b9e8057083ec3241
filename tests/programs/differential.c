/*
 * Calls any function of the program or a library with made-up arguments, in a child that cannot do harm, and says what came
 * of it: "MODULE ADDRESS SEED MILLISECONDS" is answered by what the function returned or by the signal that it died of, and by a hash of
 * the memory that its arguments point to. Equal questions have equal answers, but for functions that ask the outside world.
 */
#ifndef PATCH
#include "talk.h"
#include <elf.h>
#include <errno.h>
#include <link.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef WITH_LUA
/* Something of every part of Lua, so that all of it is linked. */
struct lua_State;
extern void luaL_openlibs(struct lua_State *);
extern struct lua_State *luaL_newstate(void);
#endif

#define SCRATCH 65536
static unsigned char *scratch;

struct outcome {
    int ended, signal;
    uint64_t rax, xmm0, fault, hash;
};
static struct outcome *shared;

static uint64_t dice;
static uint64_t roll(void)
{
    dice ^= dice << 13, dice ^= dice >> 7, dice ^= dice << 17;
    return dice;
}

struct wanted {
    const char *module;
    uint64_t bias;
    int found;
};

static int visit(struct dl_phdr_info *info, size_t size, void *arg)
{
    struct wanted *wanted = arg;
    const char *name = strrchr(info->dlpi_name, '/');
    (void)size;
    if (!strcmp(name ? name + 1 : info->dlpi_name, wanted->module)) {
        wanted->bias = info->dlpi_addr;
        wanted->found = 1;
    }
    return wanted->found;
}

static void hash_scratch(void)
{
    uint64_t hash = 14695981039346656037u;
    for (size_t i = 0; i < SCRATCH; i++)
        hash = (hash ^ scratch[i]) * 1099511628211u;
    shared->hash = hash;
}

static void on_signal(int signal, siginfo_t *info, void *context)
{
    (void)context;
    shared->signal = signal;
    shared->fault = signal == SIGSEGV || signal == SIGBUS ? (uint64_t)info->si_addr : 0;
    hash_scratch();
    _exit(1);
}

/* No system call but those that end the child, or ask for memory, does anything. */
static void confine(void)
{
    static const int allowed[] = { SYS_exit_group, SYS_exit, SYS_rt_sigreturn, SYS_brk, SYS_mmap, SYS_munmap };
    struct sock_filter filter[2 * sizeof allowed / sizeof *allowed + 2];
    unsigned short n = 0;
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (size_t i = 0; i < sizeof allowed / sizeof *allowed; i++) {
        filter[n++] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, allowed[i], 0, 1);
        filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    }
    filter[n++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM);
    struct sock_fprog program = { n, filter };
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program))
        _exit(3);
}

typedef uint64_t (*function)(uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, uint64_t, double, double, double, double);

/* Nothing of it lies on the stack, which a function may take for arguments. */
static long milliseconds;
static struct itimerval limit;

/* What earlier questions have left below differs; a function that is given nonsense may read it. */
static __attribute__((noipa)) void wipe_below(void)
{
    volatile char left[262144];
    for (unsigned i = 0; i < sizeof left; i++)
        left[i] = 0;
}

static void call(function f)
{
    static unsigned char handler_stack[65536];
    stack_t stack = { .ss_sp = handler_stack, .ss_size = sizeof handler_stack };
    struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO | SA_ONSTACK };
    static const int fatal[] = { SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT, SIGSYS, SIGVTALRM, SIGALRM };
    struct itimerval stuck = { .it_value.tv_sec = 10 };
    uint64_t a[6];
    double d[4];

    for (size_t i = 0; i + 8 <= SCRATCH; i += 8) {
        uint64_t r = roll(), word = r % 7 < 3 ? (uint64_t)scratch + r / 7 % SCRATCH / 8 * 8 : r % 7 < 6 ? r / 7 % 256 : r;
        memcpy(scratch + i, &word, 8);
    }
    for (int i = 0; i < 6; i++) {
        uint64_t r = roll();
        a[i] = r % 4 < 2 ? (uint64_t)scratch + SCRATCH / 4 + r / 4 % 64 * 64 : r % 4 < 3 ? r / 4 % 100 : r % 8 < 7 ? 0 : r;
    }
    for (int i = 0; i < 4; i++)
        d[i] = (double)(int64_t)roll() / 1e17;
    sigaltstack(&stack, NULL);
    for (size_t i = 0; i < sizeof fatal / sizeof *fatal; i++)
        sigaction(fatal[i], &action, NULL);
    setitimer(ITIMER_VIRTUAL, &limit, NULL);
    setitimer(ITIMER_REAL, &stuck, NULL);
    confine();
    wipe_below();
    shared->rax = f(a[0], a[1], a[2], a[3], a[4], a[5], d[0], d[1], d[2], d[3]);
    register double xmm0 __asm__("xmm0");
    __asm__ volatile("movsd %0, %1" : : "x"(xmm0), "m"(shared->xmm0) : "memory");
    shared->ended = 1;
    hash_scratch();
    _exit(0);
}

static void try(const char *module, uint64_t address, uint64_t seed)
{
    struct wanted wanted = { .module = module };
    int status;

    dl_iterate_phdr(visit, &wanted);
    if (!wanted.found) {
        SAY("no module %s", module);
        return;
    }
    memset(shared, 0, sizeof *shared);
    limit.it_value.tv_sec = milliseconds / 1000, limit.it_value.tv_usec = milliseconds % 1000 * 1000;
    dice = seed * 0x9e3779b97f4a7c15u | 1;
    pid_t child = fork();
    if (!child)
        call((function)(wanted.bias + address));
    if (child < 0 || waitpid(child, &status, 0) != child) {
        SAY("no child");
        return;
    }
    if (shared->ended)
        SAY("returned %lx %lx memory %lx", shared->rax, shared->xmm0, shared->hash);
    else if (shared->signal == SIGVTALRM)
        SAY("timeout");
    else if (shared->signal)
        SAY("signal %d at %lx memory %lx", shared->signal, shared->fault, shared->hash);
    else
        SAY("status %x", status);
}

int main(void)
{
    char module[128];
    unsigned long address, seed;

    scratch = mmap((void *)0x10000000000, SCRATCH, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
    shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
#ifdef WITH_LUA
    luaL_openlibs(luaL_newstate());
#endif
    ready();
    while (asked())
        if (sscanf(question, "%127s %lx %lx %ld", module, &address, &seed, &milliseconds) == 4)
            try(strcmp(module, "-") ? module : "", address, seed);
        else
            SAY("what?");
    return 0;
}
#endif
