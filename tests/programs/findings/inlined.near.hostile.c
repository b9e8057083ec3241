/* Debug information of a hostile file beside that of the program: a range that wraps, an origin that is its own, a
 * hundred records inside each other. */
//# flags: -O2
//# option: --replace price=new_price
#ifdef PATCH
int new_price(int pieces) { return pieces * 10; }
#else
#include "talk.h"

__asm__(".pushsection .debug_abbrev,\"\",@progbits\n"
        ".Lwords: .uleb128 1, 0x11\n"                     /* DW_TAG_compile_unit with children: */
        "        .byte 1; .uleb128 0x13, 0x0b, 0, 0\n"    /* DW_AT_language */
        "        .uleb128 2, 0x2e\n"                      /* DW_TAG_subprogram: */
        "        .byte 1; .uleb128 3, 8, 0x11, 1, 0x12, 7, 0, 0\n" /* name, low_pc, high_pc as a size */
        "        .uleb128 3, 0x1d\n"                      /* DW_TAG_inlined_subroutine: */
        "        .byte 0; .uleb128 0x31, 0x13, 0, 0\n"    /* DW_AT_abstract_origin */
        "        .uleb128 4, 0x13\n"                      /* DW_TAG_structure_type: */
        "        .byte 1; .uleb128 3, 8, 0, 0\n"          /* name */
        "        .byte 0\n"
        ".popsection\n"
        ".pushsection .debug_info,\"\",@progbits\n"
        ".Lunit: .long .Lend - .Lversion\n"
        ".Lversion: .value 4; .long .Lwords; .byte 8\n"
        "        .uleb128 1; .byte 0x0c\n"
        "        .uleb128 2; .asciz \"wraps\"; .quad price, -1\n"
        ".Lown:  .uleb128 3; .long .Lown - .Lunit\n"
        "        .uleb128 3; .long 0xfffffff0\n"
        "        .byte 0\n"
        "        .rept 100\n"
        "        .uleb128 4; .asciz \"nested\"\n"
        "        .endr\n"
        ".Lend: .popsection\n");

int price(int pieces);
REPLACEABLE int price(int pieces) { return pieces * 10 + 1; }

int main(void)
{
    ready();
    while (asked())
        SAY("%d", price(atoi(question)));
    return 0;
}
#endif
