/*
 * An IFUNC that no slot holds, with arguments in every register, and a resolver that leaves none of them as it was.
 * One is in a library, one in the program itself (also a static one).
 */
//# flags: -O2 -Wl,--no-as-needed
//# option: --replace answer=new_answer
//# ask: 1 => 1 | 6 21 36.0 36.0 136.0 6 21
//# ask: 2 => 2 | 6 21 36.0 36.0 136.0 6 21
#include <immintrin.h>
#include <stdarg.h>

typedef long chosen(long a, long b, long c, long d, long e, long f, double g, double h, double i, double j, double k,
                    double l, double m, double n, double *sum);
typedef double wide(__m256d a, __m256d b, __m256d c, __m256d d);
typedef double wider(__m512d a, __m512d b);
typedef long variadic(int count, ...);

#ifdef PATCH
#include <stdio.h>
extern chosen many, own_many;
extern variadic some;
extern wide four;
extern wider two;

__attribute__((target("avx"))) static double call_four(void)
{
    return four(_mm256_set_pd(1, 2, 3, 4), _mm256_set_pd(5, 6, 7, 8), _mm256_setzero_pd(), _mm256_setzero_pd());
}

__attribute__((target("avx512f"))) static double call_two(void)
{
    return two(_mm512_set_pd(1, 2, 3, 4, 5, 6, 7, 8), _mm512_set_pd(9, 10, 11, 12, 13, 14, 15, 16));
}

const char *new_answer(int x, int avx, int avx512)
{
    static char text[200];
    double sum = 0, wide_sum = 36, wider_sum = 136;
    long longs = many(1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 7, 8, &sum);
    double own_sum = 0;
    long own_longs = own_many(1, 2, 3, 4, 5, 6, 1, 2, 3, 4, 5, 6, 7, 8, &own_sum);
    if (avx)
        wide_sum = call_four();
    if (avx512)
        wider_sum = call_two();
    snprintf(text, sizeof text, "%ld %ld %.1f %.1f %.1f %ld %ld", some(3, 1.0, 2.0, 3.0), longs, sum, wide_sum, wider_sum,
             some(3, 1.0, 2.0, 3.0), own_sum == 36 ? own_longs : -1);
    return x ? text : "";
}
#else
/* A resolver may use every register that any function may. */
__attribute__((target("avx512f"))) static void spoil_512(void)
{
    __asm__ volatile("vpternlogd $255, %%zmm0, %%zmm0, %%zmm0\n\tvpternlogd $255, %%zmm1, %%zmm1, %%zmm1\n\t"
                     "vpternlogd $255, %%zmm17, %%zmm17, %%zmm17\n\tkxnorw %%k1, %%k1, %%k1" ::
                         : "xmm0", "xmm1", "xmm17", "k1");
}

__attribute__((target("avx"))) static void spoil_256(void)
{
    __asm__ volatile("vzeroall" ::: "xmm0", "xmm1", "xmm2", "xmm3", "xmm4", "xmm5", "xmm6", "xmm7", "xmm8", "xmm9",
                     "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

static void spoil(void)
{
    if (__builtin_cpu_supports("avx"))
        spoil_256();
    if (__builtin_cpu_supports("avx512f"))
        spoil_512();
    __asm__ volatile("pcmpeqd %%xmm0, %%xmm0\n\tpcmpeqd %%xmm7, %%xmm7\n\tmov $-1, %%rax\n\tmov %%rax, %%rdi\n\t"
                     "mov %%rax, %%rsi\n\tmov %%rax, %%rdx\n\tmov %%rax, %%rcx\n\tmov %%rax, %%r8\n\tmov %%rax, %%r9\n\t"
                     "mov %%rax, %%r10\n\tmov %%rax, %%r11" ::
                         : "rax", "rdi", "rsi", "rdx", "rcx", "r8", "r9", "r10", "r11", "xmm0", "xmm7");
}

static long do_many(long a, long b, long c, long d, long e, long f, double g, double h, double i, double j, double k,
                    double l, double m, double n, double *sum)
{
    *sum = g + h + i + j + k + l + m + n;
    return a + b + c + d + e + f;
}

static chosen *pick_many(void)
{
    __builtin_cpu_init();
    spoil();
    return do_many;
}

#ifdef LIBRARY
static long do_some(int count, ...)
{
    double sum = 0;
    va_list list;
    va_start(list, count);
    while (count--)
        sum += va_arg(list, double);
    va_end(list);
    return (long)sum;
}

__attribute__((target("avx"))) static double do_four(__m256d a, __m256d b, __m256d c, __m256d d)
{
    __m256d sum = a + b + c + d;
    return sum[0] + sum[1] + sum[2] + sum[3];
}

__attribute__((target("avx512f"))) static double do_two(__m512d a, __m512d b)
{
    __m512d sum = a + b;
    return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

static variadic *pick_some(void) { return __builtin_cpu_init(), spoil(), do_some; }
static wide *pick_four(void) { return __builtin_cpu_init(), spoil(), do_four; }
static wider *pick_two(void) { return __builtin_cpu_init(), spoil(), do_two; }
long many(long, long, long, long, long, long, double, double, double, double, double, double, double, double, double *)
    __attribute__((ifunc("pick_many")));
long some(int, ...) __attribute__((ifunc("pick_some")));
__attribute__((target("avx"))) double four(__m256d, __m256d, __m256d, __m256d) __attribute__((ifunc("pick_four")));
__attribute__((target("avx512f"))) double two(__m512d, __m512d) __attribute__((ifunc("pick_two")));
#else
#include "talk.h"
long own_many(long, long, long, long, long, long, double, double, double, double, double, double, double, double,
              double *) __attribute__((ifunc("pick_many")));

REPLACEABLE const char *answer(int x, int avx, int avx512) { return x == 1 || avx + avx512 == 99 ? "1" : "2"; }

int main(void)
{
    ready();
    while (asked())
        SAY("%s", answer(atoi(question), !!__builtin_cpu_supports("avx"), !!__builtin_cpu_supports("avx512f")));
    return 0;
}
#endif
#endif
