/* A thread-local variable of the patch itself: no running thread has room for it. */
//# flags: -O2
//# option: --replace answer=new_answer
//# refused: the patch has a thread-local variable of its own (calls)
//# refused: -femulated-tls
#ifdef PATCH
__thread int calls;
int new_answer(void) { return ++calls; }
#else
#include "talk.h"
REPLACEABLE int answer(void) { return 0; }

int main(void) { return answer(); }
#endif
