/*
 * The only thread computes near the end of a stack below which, in the same mapping, the program has other data. Board: rounds,
 * bytes of that data that were changed. Arguments: how many bytes of its stack are left; the board.
 */
//# flags: -O1 -pthread
//# option: --replace answer=new_answer
#ifdef PATCH
int new_answer(void) { return 2; }
#else
#include "board.h"
#include "talk.h"
#include <alloca.h>
#include <pthread.h>

enum { ROUNDS, CHANGED, SIZE = 65536, PATTERN = 0x5a };

static volatile uint64_t *board;
static volatile unsigned char *data;
static unsigned long left;

REPLACEABLE int answer(void) { return 1; }

static __attribute__((noipa)) void check(void)
{
    for (;; board[ROUNDS]++)
        for (int i = 0; i < SIZE; i++)
            if (data[i] != PATTERN) {
                board[CHANGED]++;
                data[i] = PATTERN;
            }
}

static void *near_the_end(void *arg)
{
    unsigned long here = (unsigned long)__builtin_frame_address(0), end = (unsigned long)(data + SIZE);
    volatile char *rest = alloca(here - end - left);
    rest[0] = (char)answer();
    check();
    return arg;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    pthread_attr_t attributes;
    left = strtoul(argv[1], 0, 10);
    board = board_open(argv[argc - 1]);
    data = mmap(0, 2 * SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    memset((void *)data, PATTERN, SIZE);
    ready();
    pthread_attr_init(&attributes);
    pthread_attr_setstack(&attributes, (void *)(data + SIZE), SIZE);
    if (pthread_create(&thread, &attributes, near_the_end, 0) == 0)
        pthread_exit(0);
    return 1;
}
#endif
