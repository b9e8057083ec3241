//! Rules about the function that is to be replaced: can it take a jump?

use super::{Rule, Severity};

pub(super) const RULES: &[&Rule] = &[
    &NOT_A_FUNCTION,
    &IFUNC_TARGET,
    &IFUNC_UNKNOWN,
    &IFUNC_PARTIAL,
    &IFUNC_SHARED,
    &TEXT_RELOCATIONS,
    &TOO_SHORT,
    &TOO_LONG,
    &UNMOVABLE,
    &ENTERED,
    &SECOND_ENTRY,
    &UNREADABLE_CODE,
    &WRONG_SIZE,
    &ANALYSIS_LIMIT,
];

/// See its meaning; so for all of them.
pub static NOT_A_FUNCTION: Rule = Rule {
    id: "not-a-function",
    severity: Severity::Error,
    meaning: "What is to be replaced is no function: data, or the unlikely part of one (.cold).",
    consequence: "a jump would be written over data, or new code be entered in the middle of another function.",
    example: "`--replace table=new_table`, where `table` is an array",
    way_out: "use `--set` for data.",
};

pub static IFUNC_TARGET: Rule = Rule {
    id: "ifunc-target",
    severity: Severity::Note,
    meaning: "The function is an IFUNC: its symbol is that of the resolver, which chooses one of several implementations.",
    consequence: "the implementation that the process has chosen is replaced; lp-apply refuses where none was chosen yet, or one that is not listed.",
    example: "`strlen` of glibc",
    way_out: "nothing needs to be done if all implementations are listed.",
};

pub static IFUNC_UNKNOWN: Rule = Rule {
    id: "ifunc-unknown",
    severity: Severity::Error,
    meaning: "The function is an IFUNC, and it is not known which implementations its resolver chooses from, none of them can be replaced, or no slot of the process would show which one was chosen.",
    consequence: "nothing is known that a jump could be written to.",
    example: "a resolver that takes the address from a table",
    way_out: "replace the implementation by its own name.",
};

pub static IFUNC_PARTIAL: Rule = Rule {
    id: "ifunc-partial",
    severity: Severity::Warning,
    meaning: "The function is an IFUNC, and some of the implementations that its resolver chooses from cannot be replaced.",
    consequence: "lp-apply refuses the patch where the process has chosen one of these.",
    example: "`memcpy` of glibc, whose implementations are entered behind their start by `mempcpy`",
    way_out: "replace the callers of the function instead.",
};

pub static IFUNC_SHARED: Rule = Rule {
    id: "ifunc-shared",
    severity: Severity::Warning,
    meaning: "Another IFUNC can choose the same implementation.",
    consequence: "the other function is replaced too.",
    example: "`memcpy` and `memmove` of glibc",
    way_out: "write the new function so that it does for both.",
};

pub static TEXT_RELOCATIONS: Rule = Rule {
    id: "text-relocations",
    severity: Severity::Error,
    meaning: "The loader changes the code of the module (DT_TEXTREL).",
    consequence: "the code in memory is not that of the file, so nothing proves that the right bytes are overwritten.",
    example: "a library linked with `-z notext` from objects compiled without -fPIC",
    way_out: "compile the module with -fPIC.",
};

pub static TOO_SHORT: Rule = Rule {
    id: "too-short",
    severity: Severity::Error,
    meaning: "The function and the padding behind it are shorter than the jump.",
    consequence: "the jump would overwrite the next function.",
    example: "a function of one `ret`, with another one right behind it",
    way_out: "replace its callers instead.",
};

pub static TOO_LONG: Rule = Rule {
    id: "too-long",
    severity: Severity::Error,
    meaning: "The function has more bytes than a bundle can describe.",
    consequence: "lp-apply could not tell whether a thread is inside it.",
    example: "a symbol whose size is wrong",
    way_out: "replace its callers instead.",
};

pub static UNMOVABLE: Rule = Rule {
    id: "unmovable",
    severity: Severity::Error,
    meaning: "One of the first instructions of the function cannot be moved to another place.",
    consequence: "the old function, which the gate and LP_ORIGINAL need, would not work any more.",
    example: "a function that starts with `jrcxz`",
    way_out: "replace its callers instead.",
};

pub static ENTERED: Rule = Rule {
    id: "entered",
    severity: Severity::Error,
    meaning: "A branch of this or another function, or an address in a table, leads into the bytes that the jump overwrites.",
    consequence: "the branch would land in the middle of the jump.",
    example: "a loop back to the second instruction, as in some functions of glibc written in assembly",
    way_out: "replace its callers instead.",
};

pub static SECOND_ENTRY: Rule = Rule {
    id: "second-entry",
    severity: Severity::Error,
    meaning: "Another function starts in the bytes that the jump overwrites.",
    consequence: "callers of that function would land in the middle of the jump.",
    example: "assembly with two labels a few bytes apart",
    way_out: "replace its callers instead.",
};

pub static UNREADABLE_CODE: Rule = Rule {
    id: "unreadable-code",
    severity: Severity::Warning,
    meaning: "The function runs into bytes that are no instruction as far as lp-compile knows.",
    consequence: "the code behind them may be read wrongly, and a branch into the bytes that the jump overwrites be missed.",
    example: "an instruction of a newer processor, or a trap made of bytes that no processor takes",
    way_out: "look at these bytes with a disassembler, and accept this where nothing branches back to the start of the function.",
};

pub static WRONG_SIZE: Rule = Rule {
    id: "wrong-size",
    severity: Severity::Warning,
    meaning: "The size of the function's symbol cannot be right: debug information or the unwind table tell another one, its code runs on behind it, or it reaches over another function.",
    consequence: "lp-apply may not see that a thread is inside the function, or see it inside another one.",
    example: "assembly with a wrong `.size`",
    way_out: "correct the symbol's size, or use --consistency immediate.",
};

pub static ANALYSIS_LIMIT: Rule = Rule {
    id: "analysis-limit",
    severity: Severity::Warning,
    meaning: "The analysis has stopped at one of its limits, which bound its time and memory.",
    consequence: "what it would have found behind that is not known.",
    example: "a function with 300 parts, or types that hold each other through more than 24 pointers to functions",
    way_out: "look at what it names by hand, or replace smaller functions.",
};
