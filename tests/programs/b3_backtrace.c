/* The resolver of an IFUNC without a slot, asked by a thunk of the patch: its stack is aligned, and can be walked to main. */
//# flags: -O2 -Wl,--no-as-needed -lgcc_s
//# option: --replace answer=new_answer
//# ask: 3 => 0 | 1103
#ifdef PATCH
extern int own(int);
int new_answer(int n) { return own(n) + 1000; }
#else
#include "talk.h"
#include <stdint.h>
#include <unwind.h>

int main(void);
static int in_main, aligned;

static _Unwind_Reason_Code frame(struct _Unwind_Context *context, void *none)
{
    (void)none;
    in_main |= _Unwind_FindEnclosingFunction((void *)(_Unwind_GetIP(context) - 1)) == (void *)main;
    return _URC_NO_REASON;
}

static int do_own(int n) { return (in_main && aligned ? 100 : 900) + n; }

__attribute__((noinline, optimize("no-omit-frame-pointer"))) static int (*pick(void))(int)
{
    /* Of a function that was called on an aligned stack, as the psABI has it. */
    aligned = (uintptr_t)__builtin_frame_address(0) % 16 == 0;
    _Unwind_Backtrace(frame, 0);
    return do_own;
}
int own(int) __attribute__((ifunc("pick"), used));

REPLACEABLE int answer(int n) { return n < 100 ? 0 : n; }

int main(void)
{
    ready();
    while (asked()) {
        SAY("%d", answer(atoi(question)));
        wipe_stack();
    }
    return 0;
}
#endif
