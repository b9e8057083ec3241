//! Rules about variables and types that patch and target share.

use super::{Rule, Severity};

pub(super) const RULES: &[&Rule] = &[&FORKED_DATA, &CHANGED_SIZE, &LAYOUT, &PROTOTYPE, &RETURNS, &PATCH_NO_DEBUG_INFO];

/// See its meaning; so for all of them.
pub static FORKED_DATA: Rule = Rule {
    id: "forked-data",
    severity: Severity::Warning,
    meaning: "The patch defines a variable that the target has already: a global of that name, a static of the same file, a static local of the same function.",
    consequence: "new code would use a fresh copy of the variable, and the rest of the program the old one with all that is in it.",
    example: "`static int calls;` copied into the patch together with the function that counts there",
    way_out: "declare the variable `extern` in the patch, with LP_BIND(\"FILE.c\", NAME) or --bind NAME=FILE.c:SYM if it is static, or give it another name.",
};

pub static CHANGED_SIZE: Rule = Rule {
    id: "changed-size",
    severity: Severity::Warning,
    meaning: "A constant or a variable that patch and target share has another size in the patch.",
    consequence: "what one side takes for its end, the other one does not.",
    example: "`extern int table[8];` in the patch, where the target has 4 of them; another value of a constant is fine",
    way_out: "keep the size, give the new one another name, or replace every function that uses it.",
};

pub static LAYOUT: Rule = Rule {
    id: "layout",
    severity: Severity::Warning,
    meaning: "A struct, union, class, enum or variable is not described alike by the debug information of the target and of the patch.",
    consequence: "new code would look for fields where the program did not put them, or take one value for another.",
    example: "a field inserted into a struct whose objects the running program has made already",
    way_out: "build the patch with the headers and options that the target was built with, and keep new data in a place of its own.",
};

pub static PROTOTYPE: Rule = Rule {
    id: "prototype",
    severity: Severity::Warning,
    meaning: "A function takes or returns something else in the patch than in the target: one that is replaced, or one that the patch calls.",
    consequence: "callers would pass and expect values where the other side does not look for them.",
    example: "one more parameter, or `long` where it was `int`; names, signs and const do not matter",
    way_out: "keep the parameters and the result of the function, and replace its callers instead.",
};

pub static RETURNS: Rule = Rule {
    id: "returns",
    severity: Severity::Warning,
    meaning: "The function never returns, its callers were compiled with that knowledge, and the new function returns.",
    consequence: "callers would run on into whatever lies behind the call.",
    example: "a `die` that ends in `exit`, replaced by one that only prints the message",
    way_out: "end the new function as the old one ends, or replace its callers as well.",
};

pub static PATCH_NO_DEBUG_INFO: Rule = Rule {
    id: "patch-no-debug-info",
    severity: Severity::Note,
    meaning: "The target has debug information and the patch has none, so types and prototypes were not compared.",
    consequence: "a struct that differs between the two would not be noticed.",
    example: "a patch that was compiled without -g",
    way_out: "compile the patch with -g.",
};
