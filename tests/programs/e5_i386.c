/* A 32-bit program without a C library: it says "ready" and sends back what it reads. Built with -m32 -nostdlib. */
__asm__(".globl _start\n"
        "_start:\n"
        "    movl $4, %eax\n" /* write(1, "ready\n", 6) */
        "    movl $1, %ebx\n"
        "    movl $ready, %ecx\n"
        "    movl $6, %edx\n"
        "    int  $0x80\n"
        "1:  movl $3, %eax\n" /* read(0, buffer, 256) */
        "    xorl %ebx, %ebx\n"
        "    movl $buffer, %ecx\n"
        "    movl $256, %edx\n"
        "    int  $0x80\n"
        "    testl %eax, %eax\n"
        "    jle  2f\n"
        "    movl %eax, %edx\n" /* write(1, buffer, as many) */
        "    movl $4, %eax\n"
        "    movl $1, %ebx\n"
        "    int  $0x80\n"
        "    jmp  1b\n"
        "2:  movl $1, %eax\n" /* exit(0) */
        "    xorl %ebx, %ebx\n"
        "    int  $0x80\n"
        "    .data\n"
        "ready:  .ascii \"ready\\n\"\n"
        "    .lcomm buffer, 256\n"
        "    .text\n");
