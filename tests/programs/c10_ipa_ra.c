/* C10. Callers know which registers `gleaf` and `fleaf` change, and that these need no aligned stack: gcc keeps b, c and d in
   registers across the calls. The new functions change every register that the ABI lets them, and need an aligned stack. */
//# flags: -O2
//# option: --replace gleaf=new_gleaf --replace fleaf=new_fleaf --replace hidden=new_hidden --replace chain=new_chain
//# ask: int => 2006 | 2006
//# ask: double => 2006 | 2006
//# ask: static => 2006 | 2006
//# ask: chain => 2006 | 2006
#ifdef PATCH
#include <stdio.h>
#include "livepatch.h"

static int calls;
static char text[64];

/* All that a call may change. */
static inline void clobber(void)
{
    __asm__ volatile("mov $0xbad, %%eax; mov %%eax, %%ecx; mov %%eax, %%edx; mov %%eax, %%esi; mov %%eax, %%edi; mov %%eax, %%r8d\n"
                     "mov %%eax, %%r9d; mov %%eax, %%r10d; mov %%eax, %%r11d; movd %%eax, %%xmm0\n"
                     "pshufd $0, %%xmm0, %%xmm0; movaps %%xmm0, %%xmm1; movaps %%xmm0, %%xmm2; movaps %%xmm0, %%xmm3\n"
                     "movaps %%xmm0, %%xmm4; movaps %%xmm0, %%xmm5; movaps %%xmm0, %%xmm6; movaps %%xmm0, %%xmm7\n"
                     "movaps %%xmm0, %%xmm8; movaps %%xmm0, %%xmm9; movaps %%xmm0, %%xmm10; movaps %%xmm0, %%xmm11\n"
                     "movaps %%xmm0, %%xmm12; movaps %%xmm0, %%xmm13; movaps %%xmm0, %%xmm14; movaps %%xmm0, %%xmm15\n"
                     ::: "rax", "rcx", "rdx", "rsi", "rdi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4",
                         "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14", "xmm15");
}

/* movaps faults if the stack is not as the ABI has it. */
static __attribute__((noinline)) void aligned(void)
{
    __asm__ volatile("movaps %%xmm0, -24(%%rsp)" ::: "memory");
}

static void wreck(void)
{
    snprintf(text, sizeof text, "%f", 1.5 * ++calls);
    aligned();
    clobber();
}

int new_gleaf(int x) { wreck(); return x ^ 1; }
double new_fleaf(double x) { wreck(); return x + 1; }
int new_hidden(int x) { wreck(); return x | 1; }
void new_chain(int x) { wreck(); }
#else
#include "talk.h"

int sink = 1, calls_made;
__attribute__((noinline)) int gleaf(int x) { return x ^ sink; }
__attribute__((noinline)) double fleaf(double x) { return x + sink; }
static __attribute__((noinline)) int hidden(int x) { return x | sink; }
__attribute__((noinline)) void chain(int x) { calls_made = x; }

/* 2006 = (0 ^ 1) + 2 * 1000 + 3 + 2 */
__attribute__((noinline)) int caller(int a, int b, int c, int d) { return gleaf(a) + b * 1000 + c + d; }
__attribute__((noinline)) double fcaller(double a, double b, double c) { return fleaf(a) + b * 1000 + c; }
__attribute__((noinline)) int static_caller(int a, int b, int c, int d) { return hidden(a) + b * 1000 + c + d; }
/* Does not rely on registers itself, but its caller relies on those that neither it nor `chain` changes. */
__attribute__((noinline)) void middle(int x) { chain(x); sink = 1; }
__attribute__((noinline)) int outer(int a, int b, int c, int d) { middle(a); return b * 1000 + c + d; }

int main()
{
    ready();
    while (asked()) {
        if (!strcmp(question, "int"))
            SAY("%d", caller(0, 2, 3, 2));
        else if (!strcmp(question, "double"))
            SAY("%g", fcaller(0, 2, 5));
        else if (!strcmp(question, "static"))
            SAY("%d", static_caller(0, 2, 3, 2));
        else if (!strcmp(question, "chain"))
            SAY("%d", outer(0, 2, 3, 3));
    }
}
#endif
