/* IFUNCs of libc and libm: some have a slot in libc, some (time, strstr, __memcpy_chk ...) have none anywhere. */
//# flags: -O2 -pthread -Wl,--no-as-needed -lm
//# patch-flags: -fno-builtin -lm
//# option: --replace answer=new_answer
//# ask: 1 => none | time ok gettimeofday ok strstr ok memcpy_chk ok strncat ok wcsrchr ok memcpy ok strlen ok args ok
//# ask: 2 => none none | time ok gettimeofday ok strstr ok memcpy_chk ok strncat ok wcsrchr ok memcpy ok strlen ok args ok twice
#ifdef PATCH
#define _GNU_SOURCE
#include <math.h>
#include <stdio.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <wchar.h>
extern void *__memcpy_chk(void *, const void *, size_t, size_t);

/* Each of the first calls goes through the resolver: every argument must arrive. */
static int arguments(void)
{
    static volatile double x = 3.75, big = 1e300;
    return trunc(x) == 3.0 && ceil(x) == 4.0 && floor(-x) == -4.0 && nearbyint(x) == 4.0 && fmaf(2.5f, 3.0f, 1.0f) == 8.5f &&
           floor(big) == big && tan(0.0) == 0.0 && atan2(0.0, 1.0) == 0.0;
}

const char *new_answer(char *text, size_t size)
{
    char buffer[64];
    struct timeval now;
    time_t seconds = time(0);
    int got = gettimeofday(&now, 0);
    strcpy(buffer, "0123456789");
    int chk = __memcpy_chk(buffer + 20, buffer, 11, 44) == buffer + 20 && !strcmp(buffer + 20, "0123456789");
    strncat(buffer, "abcdef", 3);
    snprintf(text, size, "time %s gettimeofday %s strstr %s memcpy_chk %s strncat %s wcsrchr %s memcpy %s strlen %s args %s",
             seconds > 1000000000 ? "ok" : "wrong", !got && now.tv_sec - seconds < 100 ? "ok" : "wrong",
             strstr(buffer, "345") == buffer + 3 ? "ok" : "wrong", chk ? "ok" : "wrong",
             !strcmp(buffer, "0123456789abc") ? "ok" : "wrong", *wcsrchr(L"abcabc", L'b') == L'b' ? "ok" : "wrong",
             memcpy(buffer + 30, buffer, 20) == buffer + 30 && buffer[30] == '0' ? "ok" : "wrong",
             strlen(buffer) == 13 ? "ok" : "wrong", arguments() ? "ok" : "wrong");
    return text;
}
#else
#include "talk.h"
#include <pthread.h>
REPLACEABLE const char *answer(char *text, size_t size) { return size ? "none" : text; }

static void *ask(void *text) { return (void *)answer(text, 256); }

int main(void)
{
    static char texts[2][256];
    ready();
    while (asked()) {
        pthread_t threads[2];
        void *said[2];
        int count = atoi(question);
        for (int i = 0; i < count; i++)
            pthread_create(&threads[i], 0, ask, texts[i]);
        for (int i = 0; i < count; i++)
            pthread_join(threads[i], &said[i]);
        if (count == 1)
            SAY("%s", (char *)said[0]);
        else if (!strcmp(said[0], "none"))
            SAY("%s %s", (char *)said[0], (char *)said[1]);
        else
            SAY("%s%s", (char *)said[0], strcmp(said[0], said[1]) ? " differ" : " twice");
    }
    return 0;
}
#endif
