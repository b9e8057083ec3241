/* C10. Callers keep whole ymm registers, and arguments are on the stack. Needs a processor with AVX. */
//# flags: -O2 -mavx
//# option: --replace leaf=new_leaf --replace nine=new_nine
//# ask: wide => 1001 1002 1003 1004 | 1001 1002 1003 1004
//# ask: nine => 2006 | 2006
#ifdef PATCH
#include <stdio.h>

static char text[64];
static void wreck(void)
{
    snprintf(text, sizeof text, "%f", 1.5);
    __asm__ volatile("vzeroall; mov $0xbad, %%eax; mov %%eax, %%ecx; mov %%eax, %%edx; mov %%eax, %%esi; mov %%eax, %%edi\n"
                     "mov %%eax, %%r8d; mov %%eax, %%r9d; mov %%eax, %%r10d; mov %%eax, %%r11d"
                     ::: "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4",
                         "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}
int new_leaf(int x)
{
    wreck();
    return x ^ 1;
}
int new_nine(int a, int b, int c, int d, int e, int f, int g, int h, int i)
{
    wreck();
    return a + b + c + d + e + f + g * 1000 + h + i;
}
#else
#include "talk.h"
#include <immintrin.h>

int sink = 1;
static double out[4];
__attribute__((noinline)) int leaf(int x) { return x ^ sink; }
__attribute__((noinline)) int nine(int a, int b, int c, int d, int e, int f, int g, int h, int i)
{
    return a + b + c + d + e + f + g * 1000 + h + i;
}
__attribute__((noinline)) void caller(__m256d a)
{
    int x = leaf(0);
    _mm256_storeu_pd(out, _mm256_add_pd(a, _mm256_set1_pd(x * 1000)));
}
__attribute__((noinline)) int caller_of_nine(int a, int b) { return nine(0, 0, 0, 0, 0, 0, a, 1, 1) + b; }

int main()
{
    ready();
    while (asked()) {
        if (!strcmp(question, "wide")) {
            caller(_mm256_set_pd(4, 3, 2, 1));
            SAY("%g %g %g %g", out[0], out[1], out[2], out[3]);
        } else
            SAY("%d", caller_of_nine(2, 4));
    }
}
#endif
