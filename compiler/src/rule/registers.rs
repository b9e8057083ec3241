//! Rules about what callers know of a function's inside: the registers and the memory that it changes, the stack that it needs.

use super::{Rule, Severity};

pub(super) const RULES: &[&Rule] = &[&REGISTER_THUNK, &ALIGNMENT_THUNK, &NO_THUNK, &SIDE_EFFECTS];

/// See its meaning; so for all of them.
pub static REGISTER_THUNK: Rule = Rule {
    id: "register-thunk",
    severity: Severity::Note,
    meaning: "A caller keeps a value in a register that the ABI lets the function change, as the old function did not (gcc's -fipa-ra, part of -O2).",
    consequence: "the new function is entered through a thunk that gives all registers back which the old function left alone; it costs a few instructions per call.",
    example: "at -O2, `esi` across a call of a small `static` function that only uses `eax` and `edi`",
    way_out: "compile the target with -fno-ipa-ra or -flive-patching=inline-clone, or mark functions that may be replaced `__attribute__((noipa))`.",
};

pub static ALIGNMENT_THUNK: Rule = Rule {
    id: "alignment-thunk",
    severity: Severity::Note,
    meaning: "A caller calls the function with a stack that is not 16-aligned, as the old function did not need that (gcc's -fipa-stack-alignment, at every level of optimisation).",
    consequence: "the new function is entered through a thunk that aligns the stack; it costs a few instructions per call.",
    example: "a function that calls nothing, called by one that has pushed no register",
    way_out: "compile the target with -fno-ipa-stack-alignment or -flive-patching=inline-clone, or mark functions that may be replaced `__attribute__((noipa))`.",
};

pub static NO_THUNK: Rule = Rule {
    id: "no-thunk",
    severity: Severity::Error,
    meaning: "Callers rely on registers or a stack alignment of the old function, and no thunk can provide that for the new one.",
    consequence: "callers would go on with values that the new function has changed, or it would crash on a stack that is not aligned.",
    example: "a function with a variable number of arguments on the stack, called with an unaligned one",
    way_out: "replace its callers instead.",
};

pub static SIDE_EFFECTS: Rule = Rule {
    id: "side-effects",
    severity: Severity::Note,
    meaning: "The old function changes no memory, the new one does, and gcc has compiled callers together with the old one (-fipa-pure-const, -fipa-modref, part of -O1).",
    consequence: "a caller may call the new function once where its source calls it twice or in a loop, or go on with values of variables that the new function has changed.",
    example: "a function that computes a price, whose replacement counts its calls",
    way_out: "look at the listed callers, and replace those that must notice; compile the target with -flive-patching=inline-clone, or mark functions that may be replaced `__attribute__((noipa))`.",
};
