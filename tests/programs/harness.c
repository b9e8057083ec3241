/* Does to itself what the harness must notice in a target. */
#include "talk.h"
#include <fcntl.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

REPLACEABLE int answer(void) { return 1; }

int main(void)
{
    ready();
    while (asked()) {
        char *page = (char *)((uintptr_t)answer & ~4095ul);
        int rc = 0;
        if (!strcmp(question, "map"))
            rc = mmap(0, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0) == MAP_FAILED;
        else if (!strcmp(question, "code")) {
            int mem = open("/proc/self/mem", O_RDWR);
            rc = pwrite(mem, "\x90", 1, (off_t)(uintptr_t)answer) != 1;
            close(mem);
        } else if (!strcmp(question, "w+x"))
            rc = mprotect(page, 4096, PROT_READ | PROT_WRITE | PROT_EXEC);
        else if (!strcmp(question, "fail"))
            return 3;
        SAY("%d", rc);
    }
    return 0;
}
