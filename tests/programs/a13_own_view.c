/* The program gives up its view of the file system: argv[1] is the directory that becomes its root. */
//# flags: -O2
//# option: --replace answer=new_answer
//# ask: x => old rc 0 | new rc 0
#ifdef PATCH
const char *new_answer(void) { return "new"; }
#else
#include "talk.h"
#include <sched.h>
#include <unistd.h>

REPLACEABLE const char *answer(void) { return "old"; }

int main(int argc, char **argv)
{
    int rc = 0;
    if (argc > 1) {
        if (geteuid() != 0)
            rc = unshare(CLONE_NEWUSER); /* chroot(2) needs it without root */
        rc = rc || chdir(argv[1]) || chroot(".") || access("/lib", F_OK) == 0 || access("/proc", F_OK) == 0;
    }
    ready();
    while (asked())
        SAY("%s rc %d", answer(), rc);
    return 0;
}
#endif
