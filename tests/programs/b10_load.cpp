/* Two threads that throw through a replaced function without pause. Board: rounds of each, errors of both together. */
//# flags: -O2 -pthread
//# option: --replace _Z6answeri=new_answer
#include <stdexcept>
#include <string>

struct Undo {
    int *count;
    ~Undo() { ++*count; }
};
void deep(int what, int value);

#ifdef PATCH
extern "C" void new_answer(int what)
{
    int undone = 0;
    try {
        Undo undo{&undone};
        deep(what, 2);
    } catch (const std::exception &) {
        if (undone == 1)
            throw;
    }
}
#else
#include "board.h"
#include "talk.h"
#include <atomic>
#include <thread>

static volatile uint64_t *board;
static std::atomic<uint64_t> errors;

REPLACEABLE void deep(int what, int value)
{
    if (what != 0)
        throw std::runtime_error(std::to_string(value));
}
REPLACEABLE void answer(int what)
{
    deep(what, 1);
    errors++; /* never: and so the call above is no jump */
}

static void work(int place)
{
    for (;;) {
        int undone = 0, value = 0;
        try {
            Undo undo{&undone};
            answer(1);
        } catch (const std::runtime_error &e) {
            value = std::stoi(e.what());
        }
        if (undone != 1 || (value != 1 && value != 2))
            errors++;
        board[2] = errors;
        board[place]++;
        for (volatile int i = 0; i < 40000; i = i + 1)
            ;
    }
}

int main(int argc, char **argv)
{
    board = board_open(argv[argc - 1]);
    ready();
    std::thread first(work, 0), second(work, 1);
    first.join();
}
#endif
