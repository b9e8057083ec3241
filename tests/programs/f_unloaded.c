/* Opens a plugin and closes it again, when it is asked to or all the time. Argument: the plugin. */
//# flags: -O2 -pthread
#ifdef PATCH
int new_answer(void) { return 2; }
int new_other(void) { return 6; }
int new_plugin_answer(void) { return 20; }
#else
#include "talk.h"

#ifdef LIBRARY
REPLACEABLE int plugin_answer(void) { return 10; }
#else
#include <dlfcn.h>
#include <pthread.h>

static void *plugin;
static const char *path;

REPLACEABLE int answer(void) { return 1; }
REPLACEABLE int other(void) { return 5; }

static int load(void)
{
    return (plugin = dlopen(path, RTLD_NOW)) != NULL;
}

static int call(void)
{
    int (*f)(void);
    *(void **)&f = dlsym(plugin, "plugin_answer");
    return f();
}

static void *reload(void *unused)
{
    for (;;) {
        if (!load())
            abort();
        call();
        dlclose(plugin);
    }
    return unused;
}

int main(int argc, char **argv)
{
    pthread_t thread;
    path = argv[argc - 1];
    ready();
    while (asked()) {
        if (!strcmp(question, "load"))
            SAY("%d", load());
        else if (!strcmp(question, "unload"))
            SAY("%d", dlclose(plugin));
        else if (!strcmp(question, "reload"))
            SAY("%d", pthread_create(&thread, NULL, reload, NULL));
        else if (!strcmp(question, "where"))
            SAY("%p", (void *)answer);
        else if (!strcmp(question, "other"))
            SAY("%d", other());
        else if (!strcmp(question, "call"))
            SAY("%d", call());
        else
            SAY("%d", answer());
    }
    return 0;
}
#endif
#endif
