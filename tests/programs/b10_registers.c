/*
 * One thread that never sleeps, with all its registers in use, also the wide ones: it is the one that is sent to the
 * unwinder. Board: rounds, errors, what the function says.
 */
//# flags: -O2 -Wl,--no-as-needed -lgcc_s
//# option: --replace answer=new_answer
#ifdef PATCH
int new_answer(void) { return 2; }
#else
#include "board.h"
#include "spin.h"
#include "talk.h"
#include <immintrin.h>

REPLACEABLE int answer(void) { return 1; }

typedef unsigned char wide[64];

/* Whole ymm registers, and the rounding mode. */
__attribute__((target("avx"), noinline)) static int spin_avx(const wide want, long turns)
{
    wide low, high;
    unsigned csr = _mm_getcsr();
    _mm_setcsr(csr | _MM_ROUND_DOWN);
    __asm__ volatile("vmovups (%1), %%ymm1\n\tvmovups 32(%1), %%ymm14\n\t1: dec %0\n\tjnz 1b\n\t"
                     "vmovups %%ymm1, (%2)\n\tvmovups %%ymm14, (%3)"
                     : "+r"(turns) : "r"(want), "r"(low), "r"(high) : "xmm1", "xmm14", "memory");
    int bad = memcmp(low, want, 32) || memcmp(high, want + 32, 32) || _mm_getcsr() != (csr | _MM_ROUND_DOWN);
    _mm_setcsr(csr);
    return bad;
}

/* Whole zmm registers, those that only AVX-512 has, and masks. */
__attribute__((target("avx512f"), noinline)) static int spin_avx512(const wide want, long turns)
{
    wide low, high;
    unsigned mask = want[0] | 0x100, masks[2];
    __asm__ volatile("vmovups (%1), %%zmm1\n\tvmovups (%1), %%zmm29\n\tkmovw %4, %%k1\n\tkmovw %4, %%k7\n\t"
                     "1: dec %0\n\tjnz 1b\n\t"
                     "vmovups %%zmm1, (%2)\n\tvmovups %%zmm29, (%3)\n\tkmovw %%k1, (%5)\n\tkmovw %%k7, 4(%5)"
                     : "+r"(turns) : "r"(want), "r"(low), "r"(high), "r"(mask), "r"(masks)
                     : "xmm1", "xmm29", "k1", "k7", "memory");
    return memcmp(low, want, 64) || memcmp(high, want, 64) || (masks[0] & 0xffff) != mask || (masks[1] & 0xffff) != mask;
}

int main(int argc, char **argv)
{
    enum { ROUNDS, ERRORS, VALUE };
    volatile uint64_t *board = board_open(argv[argc - 1]);
    wide want;
    ready();
    for (long seed = 1;; seed += 0x123456789) {
        for (unsigned i = 0; i < sizeof want; i++)
            want[i] = (unsigned char)(seed + 3 * i);
        board[ERRORS] += spin(seed, 200000) != 0;
        board[ERRORS] += __builtin_cpu_supports("avx") && spin_avx(want, 200000);
        board[ERRORS] += __builtin_cpu_supports("avx512f") && spin_avx512(want, 200000);
        board[VALUE] = answer();
        board[ROUNDS]++;
    }
}
#endif
