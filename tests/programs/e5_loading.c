/*
 * A program whose mappings change as those of one that is being started: files are mapped and unmapped all the time, until it
 * is told to load the library.
 */
//# flags: -O2 -pthread -Wl,--as-needed
//# option: --replace answer=new_answer --target {lab}/libe5_loading.so
#ifdef PATCH
int new_answer(void) { return 2; }
#elif defined LIBRARY
__attribute__((noipa)) int answer(void) { return 1; }
#else
#include "talk.h"
#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <sys/mman.h>
#include <unistd.h>

#define MAPPERS 4 /* one of them runs even on a busy machine */

static volatile int loaded;

static void *map(void *unused)
{
    int file = open("/proc/self/exe", O_RDONLY);
    while (!loaded) {
        void *page = mmap(0, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file, 0);
        usleep(700);
        munmap(page, 4096);
        usleep(300);
    }
    return unused;
}

int main(void)
{
    pthread_t mapper[MAPPERS];
    for (int i = 0; i < MAPPERS; i++)
        pthread_create(&mapper[i], 0, map, 0);
    ready();
    if (!asked())
        return 1;
    void *library = dlopen("libe5_loading.so", RTLD_NOW);
    int (*answer)(void) = library ? (int (*)(void))dlsym(library, "answer") : 0;
    loaded = 1;
    for (int i = 0; i < MAPPERS; i++)
        pthread_join(mapper[i], 0);
    SAY("%s", answer ? "loaded" : dlerror());
    while (answer && asked())
        SAY("%d", answer());
    return 0;
}
#endif
