/*
 * A program in a state that stands in the way of a patch. Argument: the state. It answers "1" (old) or "2" (new), and
 * ends well if nothing of what it did was disturbed.
 */
//# flags: -O2 -pthread
//# option: --replace answer=new_answer
#ifdef PATCH
/* An image of several pages, some of them writable. */
static volatile int calls[4096];

int new_answer(void)
{
    calls[calls[0] & 4095]++;
    return 2;
}

int new_second(void) { return 20; }
#else
#include "talk.h"
#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef PR_SET_MDWE
#define PR_SET_MDWE 65
#define PR_MDWE_REFUSE_EXEC_GAIN 1
#endif

REPLACEABLE int answer(void) { return 1; }
REPLACEABLE int second(void) { return 10; }

static void must(int done)
{
    if (!done) {
        SAY("cannot: %s", strerror(errno));
        _exit(77);
    }
}

/* A filter with this answer to system call `nr`; all others are allowed. */
static void filter(int nr, unsigned verdict)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, nr, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, verdict),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {sizeof code / sizeof *code, code};
    must(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 && prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program) == 0);
}

/* Strict mode: only read, write and exit are left. */
static void strict(void)
{
    char c;
    must(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT) == 0);
    while (read(0, &c, 1) == 1)
        if (c == '\n' && write(1, answer() == 1 ? "1\n" : "2\n", 2) != 2)
            break;
    syscall(SYS_exit, 0);
}

/* Takes all address space within 3 GiB of the program, in both directions. */
static void fill_near(void)
{
    const uint64_t step = 1 << 20, reach = UINT64_C(3) << 30, here = (uint64_t)(uintptr_t)answer & ~(step - 1);
    for (uint64_t size = step; size >= 4096; size >>= 4)
        for (uint64_t at = here - reach; at < here + reach; at += size)
            mmap((void *)(uintptr_t)at, size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
}

/* As above, and then single pages are free again within 2 GiB, below and above. */
static void leave_pages(void)
{
    const uint64_t here = (uint64_t)(uintptr_t)answer & ~UINT64_C(0xfffff);
    fill_near();
    for (int64_t away = -3; away <= 3; away += 2)
        must(munmap((void *)(uintptr_t)(here + away * (1 << 29)), 4096) == 0);
}

/* As many mappings as the system allows, less three. */
static void fill_mappings(void)
{
    const size_t most = (size_t)1 << 21;
    char *area = mmap(0, most << 12, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    size_t page = 1;
    must(area != MAP_FAILED);
    while (page < most && mprotect(area + (page << 12), 4096, PROT_READ | PROT_WRITE) == 0)
        page += 2;
    must(page > 5 && page < most && errno == ENOMEM);
    for (int n = 0; n < 3; n += 2)
        must(mprotect(area + ((page - 2 - n) << 12), 4096, PROT_NONE) == 0);
}

/* Bytes in a line of /proc/self/status. */
static unsigned long long in_use(const char *name)
{
    char status[4096], *line;
    int fd = open("/proc/self/status", O_RDONLY);
    ssize_t got = read(fd, status, sizeof status - 1);
    must(got > 0);
    status[got] = 0;
    must((line = strstr(status, name)) != 0);
    close(fd);
    return strtoull(line + strlen(name), 0, 10) * 1024;
}

/* Sets a limit to what is in use and two pages more: fewer than the patch needs, but enough to begin with it. */
static void limit(int which, const char *name)
{
    struct rlimit limit;
    must(getrlimit(which, &limit) == 0);
    limit.rlim_cur = in_use(name) + 8192;
    must(setrlimit(which, &limit) == 0);
}

/* All memory locked, now and from now on, and no right to lock more than the limit allows. */
static void lock_memory(void)
{
    struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
    struct __user_cap_data_struct caps[2];
    must(mlockall(MCL_CURRENT | MCL_FUTURE) == 0);
    must(syscall(SYS_capget, &head, caps) == 0);
    for (int i = 0; i < 2; i++)
        caps[i].effective = caps[i].permitted = caps[i].inheritable = 0;
    must(syscall(SYS_capset, &head, caps) == 0);
    limit(RLIMIT_MEMLOCK, "VmLck:");
}

/* Holds the lock that keeps two lp-apply off one process. */
static void hold_lock(int pid)
{
    char folder[32];
    int fd = syscall(SYS_pidfd_open, pid, 0);
    snprintf(folder, sizeof folder, "/proc/%d", pid);
    must(fd < 0 || flock(fd, LOCK_EX | LOCK_NB) == 0);
    must(flock(open(folder, O_RDONLY), LOCK_EX | LOCK_NB) == 0);
}

/* The code of the program in anonymous memory, as tools do that use huge pages. */
static void remap_text(void)
{
    extern char __executable_start, etext;
    char *start = (char *)((uintptr_t)answer & ~4095UL), *end = (char *)(((uintptr_t)&etext + 4095) & ~4095UL);
    size_t size = end - start;
    char *copy = mmap(0, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    must(copy != MAP_FAILED && (uintptr_t)&__executable_start < (uintptr_t)start + size);
    memcpy(copy, start, size);
    must(mprotect(copy, size, PROT_READ | PROT_EXEC) == 0);
    must(mremap(copy, size, size, MREMAP_MAYMOVE | MREMAP_FIXED, start) == start);
}

static void map_self(void)
{
    int fd = open("/proc/self/exe", O_RDONLY);
    must(fd >= 0 && mmap(0, 8192, PROT_READ, MAP_PRIVATE, fd, 0) != MAP_FAILED);
    must(mmap(0, 8192, PROT_READ | PROT_EXEC, MAP_PRIVATE, fd, 0) != MAP_FAILED);
    must(mmap(0, 8192, PROT_READ, MAP_SHARED, fd, 0) != MAP_FAILED);
}

static void *in_vfork(void *arg)
{
    /* The child has its own memory; this thread waits for its end in uninterruptible sleep. */
    int pid = syscall(SYS_clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0);
    if (pid == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
        pause();
    }
    return arg;
}

/* Waits for ever with a stack pointer that leads nowhere. */
static void *without_stack(void *arg)
{
    __asm__ volatile("mov $0x12340, %%esp\n1: mov %0, %%eax\n syscall\n jmp 1b" : : "i"(SYS_pause) : "memory");
    return arg;
}

static int sharer(void *arg)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL, 0, 0, 0);
    for (;;)
        pause();
    return arg != 0;
}

/* The first thread of a process of its own, which ends before another one. */
static int leave_to_heir(void *arg)
{
    static char heirs[65536];
    const int thread = CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD;
    if (clone(sharer, heirs + sizeof heirs, thread, arg) > 0)
        syscall(SYS_exit, 0);
    return 1;
}

static char stack[65536] __attribute__((aligned(16)));

static void breakpoint(void)
{
    char *page = (char *)((uintptr_t)answer & ~4095UL);
    must(mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC) == 0);
    *(unsigned char *)answer = 0xcc;
    must(mprotect(page, 4096, PROT_READ | PROT_EXEC) == 0);
}

int main(int argc, char **argv)
{
    const char *state = argv[argc - 1];
    pthread_t thread;
    if (!strcmp(state, "seccomp-allow"))
        filter(SYS_ptrace, SECCOMP_RET_ERRNO | EPERM);
    else if (!strcmp(state, "seccomp-errno"))
        filter(SYS_mmap, SECCOMP_RET_ERRNO | EPERM);
    else if (!strcmp(state, "seccomp-kill"))
        filter(SYS_mmap, SECCOMP_RET_KILL_PROCESS);
    else if (!strcmp(state, "seccomp-trap"))
        filter(SYS_munmap, SECCOMP_RET_TRAP);
    else if (!strcmp(state, "seccomp-homeward"))
        filter(SYS_rt_sigprocmask, SECCOMP_RET_KILL_PROCESS);
    else if (!strcmp(state, "mdwe"))
        must(prctl(PR_SET_MDWE, PR_MDWE_REFUSE_EXEC_GAIN, 0, 0, 0) == 0);
    else if (!strcmp(state, "full"))
        fill_near();
    else if (!strcmp(state, "pages"))
        leave_pages();
    else if (!strcmp(state, "mappings"))
        fill_mappings();
    else if (!strcmp(state, "locks"))
        hold_lock(atoi(argv[1]));
    else if (!strcmp(state, "remapped"))
        remap_text();
    else if (!strcmp(state, "mapped-twice"))
        map_self();
    else if (!strcmp(state, "traced"))
        must(ptrace(PTRACE_TRACEME, 0, 0, 0) == 0);
    else if (!strcmp(state, "undumpable"))
        must(prctl(PR_SET_DUMPABLE, 0) == 0);
    else if (!strcmp(state, "breakpoint"))
        breakpoint();
    else if (!strcmp(state, "in-vfork"))
        must(pthread_create(&thread, 0, in_vfork, 0) == 0);
    else if (!strcmp(state, "no-stack"))
        must(pthread_create(&thread, 0, without_stack, 0) == 0);
    else if (!strcmp(state, "shared"))
        must(clone(sharer, stack + sizeof stack, CLONE_VM | SIGCHLD, 0) > 0);
    else if (!strcmp(state, "shared-by-heir"))
        must(clone(leave_to_heir, stack + sizeof stack, CLONE_VM | SIGCHLD, 0) > 0);
    if (!strcmp(state, "execed")) {
        usleep(1000);
        answer();
        execl("/proc/self/exe", argv[0], state, NULL);
    }
    ready();
    if (!strcmp(state, "exec-again"))
        execl("/proc/self/exe", argv[0], "execed", NULL);
    /* The limits count from here on: `ready` has made the buffers of the answers. */
    if (!strcmp(state, "limit-as")) {
        limit(RLIMIT_AS, "VmSize:");
        SAY("limited");
    } else if (!strcmp(state, "limit-data")) {
        limit(RLIMIT_DATA, "VmData:");
        SAY("limited");
    } else if (!strcmp(state, "limit-memlock")) {
        lock_memory();
        SAY("limited");
    } else if (!strcmp(state, "strict")) {
        strict();
    }
    while (asked()) {
        if (!strcmp(question, "exec"))
            execl("/bin/cat", "cat", NULL);
        if (!strcmp(question, "both"))
            SAY("%d %d", answer(), second());
        else
            SAY("%d", !strcmp(state, "breakpoint") ? 1 : answer());
    }
    return 0;
}
#endif
