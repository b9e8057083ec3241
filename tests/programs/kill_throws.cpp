/* One thread that throws without pause. Board: rounds, errors, results of both functions, which come as exceptions. */
//# flags: -O2
//# option: --replace _Z6answeri=new_answer --replace _Z6seconds=new_second
#include <stdexcept>
#include <string>

struct Undo {
    int *count;
    ~Undo() { ++*count; }
};

#ifdef PATCH
extern "C" {
void new_answer(int what)
{
    if (what != 0)
        throw std::runtime_error("2");
}
void new_second(short what)
{
    int undone = 0;
    try {
        Undo undo{&undone};
        new_answer(what);
    } catch (const std::exception &) {
        if (undone == 1)
            throw;
    }
}
}
#else
#include "board.h"
#include "talk.h"

REPLACEABLE void answer(int what)
{
    if (what != 0)
        throw std::runtime_error("1");
}
REPLACEABLE void second(short what)
{
    if (what != 0)
        throw std::runtime_error("1");
}

/* So that the thread is not only in the unwinder. */
static void compute()
{
    for (volatile int i = 0; i < 20000; i = i + 1)
        ;
}

int main(int argc, char **argv)
{
    enum { ROUNDS, ERRORS, VALUE, SECOND };
    volatile uint64_t *board = board_open(argv[argc - 1]);
    int undone = 0;

    ready();
    for (;;) {
        uint64_t errors = 2, values[2] = {0, 0};
        compute();
        for (int i = 0; i < 2; i++) {
            try {
                Undo undo{&undone};
                i == 0 ? answer(1) : second(1);
            } catch (const std::runtime_error &e) {
                values[i] = e.what()[0] - '0';
                errors -= undone;
                undone = 0;
            }
        }
        board[VALUE] = values[0];
        board[SECOND] = values[1];
        board[ERRORS] += errors;
        board[ROUNDS]++;
    }
}
#endif
