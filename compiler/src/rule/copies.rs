//! Rules about the other places where a function's code is: other names, copies.

use super::{Rule, Severity};

pub(super) const RULES: &[&Rule] =
    &[&INLINED, &INLINED_AWAY, &OTHER_BODY, &CLONE, &FOLDED, &ALIAS, &REPLACED_TWICE, &NO_DEBUG_INFO];

/// See its meaning; so for all of them.
pub static INLINED: Rule = Rule {
    id: "inlined",
    severity: Severity::Warning,
    meaning: "The compiler has copied the function into other functions, which the patch does not replace.",
    consequence: "these go on running the old code.",
    example: "a small function at -O2, called in the same file",
    way_out: "replace the functions that it was copied into as well.",
};

pub static INLINED_AWAY: Rule = Rule {
    id: "inlined-away",
    severity: Severity::Error,
    meaning: "The compiler has copied the function into all its callers and has left no body of it.",
    consequence: "there is nothing that a jump could be written to.",
    example: "a static function at -O2 that is called once",
    way_out: "replace the functions that it was copied into.",
};

pub static OTHER_BODY: Rule = Rule {
    id: "other-body",
    severity: Severity::Warning,
    meaning: "The function is one of a header, and other files have a body of it too.",
    consequence: "callers in those files go on running the old code.",
    example: "a `static` function of a header that is included twice",
    way_out: "replace it in each file: --replace a.c:f=new --replace b.c:f=new.",
};

pub static CLONE: Rule = Rule {
    id: "clone",
    severity: Severity::Warning,
    meaning: "The compiler has made a specialised copy of the function (.constprop, .isra, .part), or what is to be replaced is one.",
    consequence: "callers of the copy go on running the old code; its parameters are not those of the function.",
    example: "`f.constprop.0`, made for calls with a constant argument",
    way_out: "replace the callers of the copy as well.",
};

pub static FOLDED: Rule = Rule {
    id: "folded",
    severity: Severity::Warning,
    meaning: "Several functions of the source have the same code, and the compiler or linker has kept it once.",
    consequence: "the others are replaced with it.",
    example: "`--icf=all` of gold and lld, -fipa-icf of gcc",
    way_out: "name all of them: --replace a=new --replace b=new.",
};

pub static ALIAS: Rule = Rule {
    id: "alias",
    severity: Severity::Note,
    meaning: "The function has other names.",
    consequence: "calls by the other names run the new code as well.",
    example: "`__open` and `open` of glibc; constructors of C++, which have two names",
    way_out: "nothing needs to be done if these are names of one function.",
};

pub static REPLACED_TWICE: Rule = Rule {
    id: "replaced-twice",
    severity: Severity::Error,
    meaning: "One function, or two that are the same code, are to be replaced by different ones.",
    consequence: "only one of the two new functions could be reached.",
    example: "`--replace a=new_a --replace b=new_b`, where `b` is an alias of `a`",
    way_out: "replace both by the same function.",
};

pub static NO_DEBUG_INFO: Rule = Rule {
    id: "no-debug-info",
    severity: Severity::Note,
    meaning: "There is no debug information about the module that is patched, or it is damaged.",
    consequence: "copies of functions inside others, folded functions and the layout of types are not looked for.",
    example: "a stripped program without --debug-file",
    way_out: "give its debug file with --debug-file, or compile with -g.",
};
