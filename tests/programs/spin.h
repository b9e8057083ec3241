/* A loop that has all registers and its red zone in use, and knows what must be in them. */
#ifndef SPIN_H
#define SPIN_H

/*
 * long spin(long seed, long turns): fills the registers and the red zone with numbers made from `seed`, adds 1 to each
 * vector lane `turns` times and so to a counter; returns how many places hold what they must not.
 */
long spin(long seed, long turns);
__asm__(
    ".text\n.globl spin\n.type spin,@function\nspin:\n"
    "  push %rbx; push %rbp; push %r12; push %r13; push %r14; push %r15\n"
    "  mov %rdi,%rbx; lea 1(%rdi),%rbp; lea 2(%rdi),%r12; lea 3(%rdi),%r13; lea 4(%rdi),%r14; lea 5(%rdi),%r15\n"
    "  lea 6(%rdi),%r8; lea 7(%rdi),%r9; lea 8(%rdi),%r10; lea 9(%rdi),%r11; lea 10(%rdi),%rdx\n"
    "  mov %rdi,-8(%rsp); mov %rdx,-64(%rsp); mov %r11,-128(%rsp)\n"
    "  xor %eax,%eax; mov $1,%ecx\n"
    "  movq %rcx,%xmm0; punpcklqdq %xmm0,%xmm0\n"
    "  movq %rdi,%xmm1; punpcklqdq %xmm1,%xmm1; movdqa %xmm1,%xmm7; movdqa %xmm1,%xmm15\n"
    "  fldpi\n"
    "1: paddq %xmm0,%xmm1; paddq %xmm0,%xmm7; paddq %xmm0,%xmm15; inc %rcx; cmp %rsi,%rcx; jle 1b\n"
    "  add %rdi,%rsi\n"                          /* what each lane must hold now */
    "  movq %xmm1,%rcx;  cmp %rsi,%rcx; setne %al; psrldq $8,%xmm1\n"
    "  movq %xmm1,%rcx;  xor %rsi,%rcx; or %rcx,%rax\n"
    "  movq %xmm7,%rcx;  xor %rsi,%rcx; or %rcx,%rax\n"
    "  movq %xmm15,%rcx; xor %rsi,%rcx; or %rcx,%rax\n"
    "  mov -8(%rsp),%rcx;   xor %rdi,%rcx; or %rcx,%rax\n"
    "  mov -64(%rsp),%rcx;  xor %rdx,%rcx; or %rcx,%rax\n"
    "  mov -128(%rsp),%rcx; xor %r11,%rcx; or %rcx,%rax\n"
    "  fldpi; fcomip %st(1),%st; setne %cl; movzbl %cl,%ecx; or %rcx,%rax; fstp %st(0)\n"
    "  sub %rdi,%rbx; or %rbx,%rax\n"
    "  sub %rdi,%rbp; dec %rbp; or %rbp,%rax\n"
    "  sub %rdi,%r12; sub $2,%r12; or %r12,%rax\n"
    "  sub %rdi,%r13; sub $3,%r13; or %r13,%rax\n"
    "  sub %rdi,%r14; sub $4,%r14; or %r14,%rax\n"
    "  sub %rdi,%r15; sub $5,%r15; or %r15,%rax\n"
    "  sub %rdi,%r8; sub $6,%r8; or %r8,%rax\n"
    "  sub %rdi,%r9; sub $7,%r9; or %r9,%rax\n"
    "  sub %rdi,%r10; sub $8,%r10; or %r10,%rax\n"
    "  sub %rdi,%r11; sub $9,%r11; or %r11,%rax\n"
    "  sub %rdi,%rdx; sub $10,%rdx; or %rdx,%rax\n"
    "  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbp; pop %rbx\n"
    "  ret\n.size spin,.-spin\n");

#endif
