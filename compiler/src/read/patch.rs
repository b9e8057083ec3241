//! The patch `.so`: what it must not bring, and what livepatch.h wrote into it.
//!
//! ```text
//! .lp.replace.OLD         code of the function that replaces OLD
//! .lp.replace.OLD@b.c     ... that replaces the static OLD of b.c
//! .lp.bind                "b.c\0sym\0" ... : undefined `sym` of the patch is the static `sym` of b.c
//! ```

use super::ReadError;
use super::elf::{Object, Range};
use super::symbols::{Symbol, printable};
use crate::arch::x86_64::{ENDBR64, RelocKind};
use crate::finding::{Explain, Findings};
use crate::rule::{self, Rule};
use crate::spec::Qualified;
use lpb::LinkAddr;
use object::elf;

/// Why a shared object cannot be a patch.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    #[error("the patch is a program, not a shared object")]
    Program,
    #[error("the patch has a thread-local variable of its own ({name}): running threads have no room for it")]
    Tls { name: String },
    #[error("the patch defines an IFUNC ({name}): not supported by this version")]
    Ifunc { name: String },
    #[error("the patch needs relocations in its text (DT_TEXTREL)")]
    TextRelocations,
    #[error("the patch has a segment at {at} that is writable and executable")]
    WritableCode { at: LinkAddr },
    #[error("the patch asks for an executable stack (PT_GNU_STACK)")]
    ExecutableStack,
    #[error("the patch has a {what} ({name}), which would never run")]
    Constructor { what: &'static str, name: String },
    #[error("section {section} of the patch holds {count} functions; LP_REPLACE takes exactly one")]
    Replace { section: String, count: usize },
    #[error("section .lp.bind of the patch is damaged")]
    Bind,
}

impl Explain for PatchError {
    fn hint(&self) -> Option<String> {
        let text = match self {
            Self::Program => "build the patch with -shared -fPIC",
            Self::Tls { .. } => {
                "compile the patch with clang -femulated-tls (the target has to load libgcc_s), or keep the value in a pthread key"
            }
            Self::Ifunc { .. } => "call one implementation directly, or choose it at the first call",
            Self::TextRelocations => "compile every file of the patch with -fPIC",
            Self::WritableCode { .. } => "link the patch without -z execstack, -N or writable text sections",
            Self::ExecutableStack => {
                "leave out nested functions whose address is taken, or link with -z noexecstack if none needs it"
            }
            Self::Constructor { name, .. } if name.starts_with("_GLOBAL__sub_I") => {
                "make global objects local statics of a function; <iostream> brings one: include <ostream> or <istream>"
            }
            Self::Constructor { .. } => "initialise at the first call of a replaced function, or statically",
            Self::Replace { .. } => "put LP_REPLACE before the definition of one function, and only there",
            Self::Bind => "write LP_BIND(\"file.c\", symbol); at file scope, and do not strip the section",
        };
        Some(text.to_owned())
    }

    fn rule(&self) -> Option<&'static Rule> {
        Some(match self {
            Self::Program => &rule::PATCH_PROGRAM,
            Self::Tls { .. } => &rule::PATCH_THREAD_LOCAL,
            Self::Ifunc { .. } => &rule::PATCH_IFUNC,
            Self::TextRelocations => &rule::PATCH_TEXT_RELOCATIONS,
            Self::WritableCode { .. } | Self::ExecutableStack => &rule::PATCH_WRITABLE_CODE,
            Self::Constructor { .. } => &rule::PATCH_CONSTRUCTOR,
            Self::Replace { .. } | Self::Bind => &rule::PATCH_DIRECTIVE,
        })
    }
}

/// A replacement that the patch itself asks for.
#[derive(Clone, Debug)]
pub struct Wanted {
    pub old: Qualified,
    pub new: String,
    pub new_addr: LinkAddr,
}

/// What livepatch.h left in the patch.
#[derive(Debug, Default)]
pub struct Directives {
    pub replacements: Vec<Wanted>,
    /// Undefined name, and the symbol it means.
    pub binds: Vec<(String, Qualified)>,
}

/// All symbols of the patch: `.symtab` where present, and the dynamic ones.
pub fn symbols(patch: &Object) -> impl Iterator<Item = (&Symbol, String)> {
    let full = patch.symtab.iter().map(|s| (s, patch.symtab.text(s)));
    full.chain(patch.dynamic.symbols.iter().map(|s| (s, patch.dynamic.symbols.text(s))))
}

/// Reports everything that this object brings and a patch must not.
pub fn check(patch: &Object, findings: &mut Findings) -> Result<(), ReadError> {
    if patch.is_program() {
        findings.add(PatchError::Program);
    }
    let tls = symbols(patch).find(|(s, _)| s.kind == elf::STT_TLS && s.is_defined());
    if let Some((_, name)) = tls {
        findings.add(PatchError::Tls { name });
    } else if patch.tls.is_some() {
        findings.add(PatchError::Tls { name: "PT_TLS".to_owned() });
    }
    let ifunc = symbols(patch).find(|(s, _)| s.kind == elf::STT_GNU_IFUNC && s.is_defined()).map(|(_, name)| name);
    let irelative = patch.dynamic.relocs.iter().find(|r| r.kind() == RelocKind::IRelative);
    if let Some(name) = ifunc.or(irelative.map(|r| format!("R_X86_64_IRELATIVE at {}", r.place))) {
        findings.add(PatchError::Ifunc { name });
    }
    if patch.dynamic.text_relocations {
        findings.add(PatchError::TextRelocations);
    }
    for load in patch.loads.iter().filter(|l| l.flags & 3 == 3) {
        findings.add(PatchError::WritableCode { at: load.vaddr });
    }
    if patch.executable_stack {
        findings.add(PatchError::ExecutableStack);
    }
    constructors(patch, findings)
}

/// `_init`, `_fini`, `frame_dummy` and `__do_global_dtors_aux` come with the C runtime and do nothing for a patch.
fn constructors(patch: &Object, findings: &mut Findings) -> Result<(), ReadError> {
    for (at, usual, what) in
        [(patch.dynamic.init, "_init", "DT_INIT function"), (patch.dynamic.fini, "_fini", "DT_FINI function")]
    {
        let Some(at) = at else { continue };
        let names: Vec<String> = patch.symtab.at(at).map(|s| patch.symtab.text(s)).collect();
        if let Some(name) = names.first().filter(|_| !names.iter().any(|n| n == usual)) {
            findings.add(PatchError::Constructor { what, name: name.clone() });
        }
    }
    for (range, usual, what) in [
        (patch.dynamic.init_array, "frame_dummy", "constructor"),
        (patch.dynamic.fini_array, "__do_global_dtors_aux", "destructor"),
    ] {
        for at in range.map(entries).unwrap_or_default() {
            let target = pointer(patch, at)?;
            let names: Vec<String> = patch.symtab.at(target).map(|s| patch.symtab.text(s)).collect();
            let is_usual = match names.is_empty() {
                true => looks_usual(patch, target, what),
                false => names.iter().any(|n| n == usual),
            };
            if !is_usual {
                let name = names.first().cloned().unwrap_or_else(|| format!("at {target}"));
                findings.add(PatchError::Constructor { what, name });
            }
        }
    }
    Ok(())
}

fn entries(range: Range) -> Vec<LinkAddr> {
    let count = range.size.min(1 << 16).checked_div(8).unwrap_or(0);
    (0..count).filter_map(|i| range.start.plus(i.checked_mul(8)?)).collect()
}

/// Where a pointer of the patch's data points: its relocation says it, or the word itself.
fn pointer(patch: &Object, at: LinkAddr) -> Result<LinkAddr, ReadError> {
    let reloc = patch.dynamic.relocs.iter().find(|r| r.place == at);
    match reloc {
        Some(r) => {
            let base = patch.dynamic.symbol_of(r).map_or(0, |s| s.value.0);
            Ok(LinkAddr(base.wrapping_add_signed(r.addend)))
        }
        None => patch.word(at).map(LinkAddr),
    }
}

/// In a stripped patch: the first instructions that gcc's crtbeginS.o has in these two functions.
fn looks_usual(patch: &Object, at: LinkAddr, what: &str) -> bool {
    let Ok(code) = patch.memory(at, 6) else { return false };
    let code = code.strip_prefix(&ENDBR64).unwrap_or(&code);
    match what {
        "constructor" => code.starts_with(&[0xE9]) || code.starts_with(&[0xEB]), // jmp register_tm_clones
        _ => code.starts_with(&[0x80, 0x3D]),                                    // cmp completed(%rip), 0
    }
}

/// Reads what livepatch.h wrote.
pub fn directives(patch: &Object, findings: &mut Findings) -> Result<Directives, ReadError> {
    let mut found = Directives::default();
    for section in &patch.sections {
        let Some(text) = section.name.strip_prefix(".lp.replace.").filter(|t| !t.is_empty()) else { continue };
        let (old, file) = match text.split_once('@') {
            Some((old, file)) => (old, Some(file)),
            None => (text, None),
        };
        let inside = |s: &Symbol| s.is_function() && s.is_defined() && section.range().contains(s.value);
        let mut new: Vec<(LinkAddr, String)> =
            symbols(patch).filter(|(s, _)| inside(s)).map(|(s, name)| (s.value, name)).collect();
        new.sort();
        new.dedup_by_key(|(at, _)| *at);
        // gcc puts its copies of the function (`f.constprop.0`, `f.part.0`) into the same section.
        let names: Vec<String> = new.iter().map(|(_, name)| name.clone()).collect();
        new.retain(|(_, name)| name.split_once('.').is_none_or(|(whole, _)| !names.iter().any(|n| n == whole)));
        match new.as_slice() {
            [(at, name)] => {
                found.replacements.push(Wanted { old: Qualified::in_file(file, old), new: name.clone(), new_addr: *at })
            }
            all => findings.add(PatchError::Replace { section: section.name.clone(), count: all.len() }),
        }
    }
    for section in patch.sections.iter().filter(|s| s.name == ".lp.bind") {
        let bytes = patch.section_bytes(section)?;
        let mut words = bytes.split(|b| *b == 0).filter(|w| !w.is_empty()).map(printable);
        while let Some(file) = words.next() {
            match words.next() {
                Some(name) => found.binds.push((name.clone(), Qualified::in_file(Some(&file), &name))),
                None => findings.add(PatchError::Bind),
            }
        }
    }
    Ok(found)
}
