/*
 * The program to be patched: it asks func_J for an answer, is told a wrong one, and asks again, for ever.
 *
 *     cc -g -o testlive testlive.c
 *
 * Half of the time it is asleep inside func_J, so a patch has to wait for the right moment.
 */
#include <stdio.h>
#include <unistd.h>

int func_J(int a, int b)
{
    printf("in I'm wrong function...QQ\n");
    sleep(3);
    printf("exit I'm wrong function...QQ\n");
    return a + b;
}

int main(void)
{
    int result;

    /* Also into a pipe, every line goes out at once. */
    setvbuf(stdout, NULL, _IOLBF, 0);
    do {
        result = func_J(1, 2);
        sleep(3);
        printf("In main get calculating result: %d\n", result);
        if (result == 12)
            printf("=== You fix it !!! (%d)\n", result);
        else
            printf("=== No, this is not the right answer....(%d) ===\n", result);
    } while (result != 12);
    return 0;
}
