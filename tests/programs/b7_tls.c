/*
 * Thread-local variables of the program, of a library and of libc. The patch says where it sees each of them; the target
 * compares that with where it sees them itself: in the main thread, in one that was there before, in a new one.
 * A question is answered by a bit for each variable that is at the same place, a number for each thread.
 */
enum { EXE, HIDDEN, LIB, LIB_STATIC, ERRNO, RAW_ERRNO, COUNT };

#ifdef PATCH
#include <errno.h>
extern __thread int exe_value[], hidden;
void new_answer(void **seen)
{
    seen[EXE] = &exe_value[3];
    seen[HIDDEN] = &hidden;
    seen[ERRNO] = &errno;
#ifdef WITH_RAW_ERRNO
    extern __thread int raw_errno;
    __asm__(".symver raw_errno, errno@GLIBC_PRIVATE");
    seen[RAW_ERRNO] = &raw_errno;
#endif
#ifdef WITH_LIBRARY
    extern __thread long lib_value, lib_static;
    seen[LIB] = &lib_value;
    seen[LIB_STATIC] = &lib_static;
#endif
}
#elif defined LIBRARY
__thread char lib_pad[40] = {1};
__thread long lib_value = 20;
static __thread long lib_static = 21;
void lib_addresses(void **addresses)
{
    addresses[0] = &lib_value;
    addresses[1] = &lib_static;
    lib_static += lib_pad[0];
}
#else
#include "talk.h"
#include <dlfcn.h>
#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
__thread char exe_pad[8] = {1};
__thread int exe_value[5] __attribute__((aligned(64)));
static __thread int hidden = 10;
static void (*lib)(void **);
static sem_t go, done;

REPLACEABLE void answer(void **seen) { seen[EXE] = 0; }

static unsigned same(void)
{
    void *seen[COUNT] = {0}, *mine[COUNT] = {&exe_value[3], &hidden, &hidden, &hidden, &errno, &errno};
    unsigned bits = 0;
    if (lib)
        lib(&mine[LIB]);
    answer(seen);
    wipe_stack();
    for (int i = 0; i < COUNT; i++)
        bits |= (seen[i] == mine[i]) << i;
    return bits;
}

static void *fresh(void *bits)
{
    *(unsigned *)bits = same();
    return bits;
}

static void *old(void *bits)
{
    while (sem_wait(&go) == 0) {
        *(unsigned *)bits = same();
        sem_post(&done);
    }
    return bits;
}

int main(int argc, char **argv)
{
    unsigned in_fresh, in_old;
    pthread_t thread;
    if (argc > 1)
        *(void **)&lib = dlsym(dlopen(argv[1], RTLD_NOW), "lib_addresses");
#ifdef LINKED
    extern void lib_addresses(void **);
    lib = lib_addresses;
#endif
    sem_init(&go, 0, 0);
    sem_init(&done, 0, 0);
    pthread_create(&thread, 0, old, &in_old);
    ready();
    while (asked()) {
        pthread_create(&thread, 0, fresh, &in_fresh);
        pthread_join(thread, 0);
        sem_post(&go);
        sem_wait(&done);
        SAY("%x %x %x", same(), in_fresh, in_old);
    }
    return exe_pad[0] - 1;
}
#endif
