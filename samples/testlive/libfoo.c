/*
 * The patch for testlive: func1 takes the place of func_J.
 *
 *     cc -g -shared -fPIC -o libfoo.so libfoo.c
 *     lp-compile build --target testlive --patch libfoo.so --replace func_J=func1 -o testlive.lpb
 *
 * An ordinary shared library: its calls of puts and sleep go through a PLT whose slots the dynamic linker would fill.
 * Here lp-compile says what belongs into them, and lp-apply writes it.
 */
#include <stdio.h>
#include <unistd.h>

int func1(int a, int b)
{
    printf("in fixup\n");
    sleep(2);
    printf("exit fixup\n");
    return a * 10 + b;
}
