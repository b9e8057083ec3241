/* Names with several versions in libc: the patch gets those it was linked with, the old ones too. */
//# flags: -O2
//# option: --replace answer=new_answer
//# ask: realpath => - | new / old null
//# ask: regexec => - | no match
//# ask: memcpy => - | copied twice
//# ask: cond => - | woken
#ifdef PATCH
#include <pthread.h>
#include <regex.h>
#include <stdlib.h>
#include <string.h>

/* realpath@GLIBC_2.2.5 does not take a null buffer; the default version does. */
extern char *old_realpath(const char *, char *);
__asm__(".symver old_realpath, realpath@GLIBC_2.2.5");
extern void *old_memcpy(void *, const void *, size_t);
__asm__(".symver old_memcpy, memcpy@GLIBC_2.2.5");

static const char *paths(void)
{
    char *new = realpath("/", 0);
    char *old = old_realpath("/", 0);
    const char *result = new && !strcmp(new, "/") ? old ? "new / old not null" : "new / old null" : "new null";
    free(new);
    return result;
}

/* regexec@GLIBC_2.2.5 ignores REG_STARTEND and would match at 0. */
static const char *match(void)
{
    regex_t re;
    regmatch_t m = {.rm_so = 2, .rm_eo = 4};
    if (regcomp(&re, "ab", 0))
        return "regcomp failed";
    int rc = regexec(&re, "abcd", 1, &m, REG_STARTEND);
    regfree(&re);
    return rc ? "no match" : "match";
}

static const char *copy(volatile size_t len)
{
    char a[300], b[300], c[300];
    memset(a, 'x', sizeof a);
    memcpy(b, a, len);
    old_memcpy(c, b, len);
    return memcmp(a, c, len) ? "garbled" : "copied twice";
}

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t cond = PTHREAD_COND_INITIALIZER;
static int woken;

static void *waker(void *arg)
{
    pthread_mutex_lock(&mutex);
    woken = 1;
    pthread_cond_signal(&cond);
    pthread_mutex_unlock(&mutex);
    return arg;
}

static const char *wait(void)
{
    pthread_t thread;
    pthread_cond_init(&cond, 0);
    if (pthread_create(&thread, 0, waker, 0))
        return "no thread";
    pthread_mutex_lock(&mutex);
    while (!woken)
        pthread_cond_wait(&cond, &mutex);
    pthread_mutex_unlock(&mutex);
    pthread_join(thread, 0);
    return "woken";
}

const char *new_answer(const char *q)
{
    return q[0] == 'm' ? copy(300) : q[0] == 'c' ? wait() : q[2] == 'a' ? paths() : match();
}
#else
#include "talk.h"
#include <pthread.h>
REPLACEABLE const char *answer(const char *q) { return q ? "-" : ""; }

static void *nothing(void *arg) { return arg; }

int main(void)
{
    /* libc keeps the stack of an ended thread for the next one: it must be there before the patch is. */
    pthread_t thread;
    if (pthread_create(&thread, 0, nothing, 0) || pthread_join(thread, 0))
        return 1;
    ready();
    while (asked())
        SAY("%s", answer(question));
    return 0;
}
#endif
