//! Rules about the target as a whole.

use super::{Rule, Severity};

pub(super) const RULES: &[&Rule] = &[&NEVER_RETURNS, &GO_FUNCTION, &JIT_TARGET, &NO_BUILD_ID, &OTHER_LIBRARIES];

/// See its meaning; so for all of them.
pub static NEVER_RETURNS: Rule = Rule {
    id: "never-returns",
    severity: Severity::Warning,
    meaning: "The function runs for as long as its thread does: it is `main`, or a loop without an end.",
    consequence: "there is no moment at which no thread is inside it, so lp-apply would say `blocked`.",
    example: "`main`; a worker's `for (;;)` loop",
    way_out: "replace the functions that it calls, or use --immediate, which changes what the next call of it runs.",
};

pub static GO_FUNCTION: Rule = Rule {
    id: "go-function",
    severity: Severity::Error,
    meaning: "The function was written in Go.",
    consequence: "code of another compiler would overflow the small stacks of Go, which are moved and not searched for return addresses.",
    example: "`--replace main.handle=new_handle`",
    way_out: "only functions of C and C++ in such a program can be replaced.",
};

pub static JIT_TARGET: Rule = Rule {
    id: "jit-target",
    severity: Severity::Note,
    meaning: "The program loads a library that makes code while it runs.",
    consequence: "made code may have copied addresses and bodies of functions, which no analysis of files can see.",
    example: "a program that is linked to libLLVM or libjvm",
    way_out: "nothing needs to be done for functions that made code does not call.",
};

pub static NO_BUILD_ID: Rule = Rule {
    id: "no-build-id",
    severity: Severity::Note,
    meaning: "The module that is patched has no build-id.",
    consequence: "lp-apply knows it by its ELF headers and by the bytes of the functions, and another build may have the same.",
    example: "a program that was linked with --build-id=none",
    way_out: "link with --build-id.",
};

pub static OTHER_LIBRARIES: Rule = Rule {
    id: "other-libraries",
    severity: Severity::Error,
    meaning: "The patch was linked with libraries, or versions of them, that the target does not have.",
    consequence: "what the patch takes from them is not there.",
    example: "a patch that was built on a newer system and asks for GLIBC_2.38",
    way_out: "build the patch with the libraries of the target's system.",
};
