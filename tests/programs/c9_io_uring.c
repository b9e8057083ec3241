/*
 * The kernel works for the program in threads of its own that are listed among the program's: one polls a ring of io_uring(7), and
 * others read from pipes in the program's place. A stop would break off these reads. To "reads" the target says what has become
 * of them: 0, none has ended; "write" lets them end, and says how many bytes each has read. Without io_uring the target says so and
 * ends.
 */
//# flags: -O1
//# option: --replace answer=new_answer
#ifdef PATCH
int new_answer(void) { return 2; }
#else
#include "board.h"
#include "talk.h"
#include <linux/io_uring.h>
#include <sys/syscall.h>

enum { RINGS = 2, ENTRIES = 4 };

REPLACEABLE int answer(void) { return 1; }

static struct ring {
    int pipe[2];
    char buffer[16];
    unsigned *ended;
    struct io_uring_cqe *results;
} rings[RINGS];

/* Reads from the pipe of a ring with these flags, in a thread of the kernel. */
static int read_by_ring(struct ring *r, unsigned flags)
{
    struct io_uring_params p = {.flags = flags, .sq_thread_idle = 1000000};
    int fd = (int)syscall(SYS_io_uring_setup, ENTRIES, &p);
    if (fd < 0 || pipe(r->pipe))
        return -1;
    char *queues = mmap(NULL, p.cq_off.cqes + 2 * ENTRIES * sizeof *r->results, PROT_READ | PROT_WRITE, MAP_SHARED, fd,
                        IORING_OFF_SQ_RING);
    struct io_uring_sqe *entry =
        mmap(NULL, ENTRIES * sizeof *entry, PROT_READ | PROT_WRITE, MAP_SHARED, fd, IORING_OFF_SQES);
    if (queues == MAP_FAILED || entry == MAP_FAILED)
        return -1;
    r->ended = (unsigned *)(queues + p.cq_off.tail);
    r->results = (struct io_uring_cqe *)(queues + p.cq_off.cqes);
    *entry = (struct io_uring_sqe){.opcode = IORING_OP_READ, .fd = r->pipe[0], .addr = (uintptr_t)r->buffer,
                                   .len = sizeof r->buffer, .flags = IOSQE_ASYNC};
    ((unsigned *)(queues + p.sq_off.array))[0] = 0;
    __atomic_store_n((unsigned *)(queues + p.sq_off.tail), 1, __ATOMIC_RELEASE);
    /* It may have gone to sleep before it has seen anything. */
    unsigned wake = flags & IORING_SETUP_SQPOLL ? IORING_ENTER_SQ_WAKEUP : 0;
    return (int)syscall(SYS_io_uring_enter, fd, 1, 0, wake, NULL, 0);
}

static unsigned ended(int i) { return __atomic_load_n(rings[i].ended, __ATOMIC_ACQUIRE); }

int main(void)
{
    if (read_by_ring(&rings[0], 0) < 0 || read_by_ring(&rings[1], IORING_SETUP_SQPOLL) < 0) {
        SAY("no io_uring");
        return 0;
    }
    ready();
    while (asked()) {
        if (!strcmp(question, "answer"))
            SAY("%d", answer());
        else if (!strcmp(question, "reads"))
            SAY("%u", ended(0) + ended(1));
        else {
            for (int i = 0; i < RINGS; i++)
                if (write(rings[i].pipe[1], "read me", 7) != 7)
                    return 94;
            while (!ended(0) || !ended(1))
                ;
            SAY("%d %d", rings[0].results->res, rings[1].results->res);
        }
    }
}
#endif
