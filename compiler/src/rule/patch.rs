//! Rules about the patch itself: what a shared library may bring that a patch must not.

use super::{Rule, Severity};

pub(super) const RULES: &[&Rule] = &[
    &PATCH_PROGRAM,
    &PATCH_THREAD_LOCAL,
    &PATCH_IFUNC,
    &PATCH_TEXT_RELOCATIONS,
    &PATCH_WRITABLE_CODE,
    &PATCH_CONSTRUCTOR,
    &PATCH_DIRECTIVE,
];

/// See its meaning; so for all of them.
pub static PATCH_PROGRAM: Rule = Rule {
    id: "patch-program",
    severity: Severity::Error,
    meaning: "The patch is a program and no shared library.",
    consequence: "its code is made for one address, and for being started.",
    example: "a patch that was linked without -shared",
    way_out: "build the patch with -shared -fPIC.",
};

pub static PATCH_THREAD_LOCAL: Rule = Rule {
    id: "patch-thread-local",
    severity: Severity::Error,
    meaning: "The patch has thread-local variables of its own.",
    consequence: "the threads that run already have no room for them.",
    example: "`static __thread int depth;` in the patch",
    way_out: "compile the patch with clang -femulated-tls, or keep the value in a pthread key.",
};

pub static PATCH_IFUNC: Rule = Rule {
    id: "patch-ifunc",
    severity: Severity::Error,
    meaning: "The patch defines an IFUNC.",
    consequence: "nobody would run its resolver.",
    example: "a function with `__attribute__((ifunc(\"choose\")))` in the patch",
    way_out: "call one implementation directly, or choose it at the first call.",
};

pub static PATCH_TEXT_RELOCATIONS: Rule = Rule {
    id: "patch-text-relocations",
    severity: Severity::Error,
    meaning: "The patch needs relocations in its text (DT_TEXTREL).",
    consequence: "its code would have to be writable.",
    example: "an object in the patch that was compiled without -fPIC",
    way_out: "compile every file of the patch with -fPIC.",
};

pub static PATCH_WRITABLE_CODE: Rule = Rule {
    id: "patch-writable-code",
    severity: Severity::Error,
    meaning: "The patch asks for memory that is writable and executable: a segment, or the stack.",
    consequence: "lp-apply never maps such memory.",
    example: "a patch that was linked with -N, or with -z execstack",
    way_out: "link the patch without -z execstack, -N or writable text sections.",
};

pub static PATCH_CONSTRUCTOR: Rule = Rule {
    id: "patch-constructor",
    severity: Severity::Error,
    meaning: "The patch has a function that should run when it is loaded or unloaded.",
    consequence: "it would never run.",
    example: "`__attribute__((constructor))`, or a global object of C++ with a constructor",
    way_out: "initialise at the first call of a replaced function, or statically.",
};

pub static PATCH_DIRECTIVE: Rule = Rule {
    id: "patch-directive",
    severity: Severity::Error,
    meaning: "What livepatch.h left in the patch cannot be understood.",
    consequence: "nobody knows what is to be replaced.",
    example: "LP_REPLACE before two functions at once",
    way_out: "put LP_REPLACE before the definition of one function, and LP_BIND at file scope.",
};
