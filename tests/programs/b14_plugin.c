/* A plugin that the program opens by itself. Program and plugin have static functions of one name. */
//# flags: -O2
#ifdef PATCH
#include "livepatch.h"
extern int plugin_call(int x);
extern int tweak(int x);
extern int plugin_export, calls;

LP_REPLACE_IN("libb14_plugin.so", plugin_call) int new_plugin_call(int x)
{
    calls += 10;
    return LP_ORIGINAL(plugin_call)(x) * 1000 + tweak(x) + plugin_export;
}
#else
#include "talk.h"

#ifdef LIBRARY
int plugin_export = 3;
static int calls;
/* The plugin's own slot shows what its names mean in a program that nobody knew when the bundle was built. */
REPLACEABLE int exported(void) { return plugin_export; }
static REPLACEABLE int tweak(int x) { return x + 500; }
REPLACEABLE int plugin_call(int x) { return tweak(x) - 500 + ++calls; }
#else
#include <dlfcn.h>

static int calls = 77;
static REPLACEABLE int tweak(int x) { return x + 900 + calls; }

int main(int argc, char **argv)
{
    void *plugin = dlopen(argv[1], RTLD_NOW | RTLD_LOCAL);
    int (*call)(int);
    if (argc < 2 || !plugin)
        return 1;
    *(void **)&call = dlsym(plugin, "plugin_call");
    ready();
    while (asked())
        SAY("%d %d", call(atoi(question)), tweak(0));
    return 0;
}
#endif
#endif
