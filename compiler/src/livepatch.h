/*
 * livepatch.h - what a patch says about itself. Print it with `lp-compile header`.
 *
 *     #include <stdio.h>
 *     #include "livepatch.h"
 *
 *     int func_J(int a, int b);                     // the old function, as the target declares it
 *
 *     LP_REPLACE(func_J) int func1(int a, int b)    // new code for func_J
 *     {
 *         if (a < 0)
 *             return LP_ORIGINAL(func_J)(a, b);     // the old code, still there
 *         printf("fixed\n");
 *         return a * 10 + b;
 *     }
 *
 *     cc -O2 -shared -fPIC -o fix.so fix.c
 *     lp-compile build --target ./program --patch fix.so -o fix.lpb
 *
 * Functions and variables of the target are used by declaring them `extern`, static ones too: lp-compile finds them in
 * the target's symbol table. Names in C++ and Rust are mangled names: LP_REPLACE(_ZN5Shape4areaEv); on the command line
 * of lp-compile, --replace Shape::area=NEW does as well.
 * Thread-local variables of the target are declared as there (`extern __thread int depth;`); a patch has none of its own.
 * The address of a C library function that is chosen for the processor at run time (`time`, `strstr`) may differ from the
 * one that the target has: call it, do not compare it.
 * Exceptions pass through new code where the target has libgcc's unwinder; link the patch with `g++ -shared`.
 * Works with gcc and clang, C (gnu89 and later) and C++.
 */
#ifndef LIVEPATCH_H
#define LIVEPATCH_H

#define LP_FUNCTION_(place) __attribute__((noinline, used, visibility("default"), section(place)))

/* Before a function's definition: it replaces function OLD of the target. */
#define LP_REPLACE(old) LP_FUNCTION_(".lp.replace." #old)

/*
 * As LP_REPLACE, for the static function OLD of the source file FILE: "b.c", or "dir/b.c" where several have that name
 * and the target has debug information. The name of a library or plugin ("libx.so.1") means its function OLD.
 */
#define LP_REPLACE_IN(file, old) LP_FUNCTION_(".lp.replace." #old "@" file)

/* At file scope: `sym`, declared extern in the patch, is the static `sym` of the source file FILE of the target. */
#define LP_BIND(file, sym) \
    __asm__(".pushsection .lp.bind,\"\",@progbits\n\t.asciz \"" file "\"\n\t.asciz \"" #sym "\"\n\t.popsection")

/*
 * The old code of OLD, which this patch replaces; OLD must be declared. An expression whose value is a pointer to the
 * function: LP_ORIGINAL(f)(1, 2) calls it.
 */
#define LP_ORIGINAL(old) \
    (__extension__({ extern __typeof__(old) lp_original_##old __asm__("lp_original." #old); &lp_original_##old; }))

/*
 * As LP_ORIGINAL, for the static function OLD of the source file FILE, which this patch replaces with LP_REPLACE_IN or
 * --replace FILE:OLD=NEW: needed where it replaces several of that name.
 */
#define LP_ORIGINAL_IN(file, old) LP_ORIGINAL_IN_(file, old, __COUNTER__)
#define LP_ORIGINAL_IN_(file, old, number) LP_ORIGINAL_IN__(file, old, number)
#define LP_ORIGINAL_IN__(file, old, number) \
    (__extension__({ extern __typeof__(old) lp_original_##old##_##number __asm__("\"lp_original." #old ":" file "\""); \
        &lp_original_##old##_##number; }))

#endif
