/*
 * The only thread computes at the very end of a stack of its own making until it is told to leave; then it works as usual. Board:
 * whether it is to leave, rounds since then, the latest answer.
 */
//# flags: -O1
//# option: --replace answer=new_answer
#ifdef PATCH
int new_answer(void) { return 2; }
#else
#include "board.h"
#include "talk.h"

enum { LEAVE, ROUNDS, ANSWER, SIZE = 4096, ROOM = 64 };

REPLACEABLE int answer(void) { return 1; }

int main(int argc, char **argv)
{
    volatile uint64_t *board = board_open(argv[argc - 1]);
    char *end = mmap(NULL, 2 * SIZE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (end == MAP_FAILED || mprotect(end + SIZE, SIZE, PROT_READ | PROT_WRITE))
        return 94;
    ready();
    __asm__ volatile("movq %%rsp, %%rbx\n\t"
                     "movq %0, %%rsp\n"
                     "0: pause\n\t"
                     "cmpq $0, (%1)\n\t"
                     "je 0b\n\t"
                     "movq %%rbx, %%rsp"
                     :
                     : "r"(end + SIZE + ROOM), "r"(&board[LEAVE])
                     : "rbx", "memory", "cc");
    for (;; board[ROUNDS]++) {
        board[ANSWER] = answer();
        usleep(1000);
    }
}
#endif
