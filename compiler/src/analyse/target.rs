//! The target as a whole: what made it, what it loads, and functions that are never left.

use super::function::{Fragment, Function};
use super::registers::code::{Flow, flow};
use super::returns::Ends;
use super::{Study, prologue};
use crate::finding::{Explain, Findings};
use crate::read::elf::Object;
use crate::resolve::scope::Scope;
use crate::rule::{self, Rule};
use iced_x86::{FlowControl, Instruction};
use lpb::LinkAddr;

/// Libraries that make code at run time: the first part of their sonames.
const CODE_MAKERS: [&str; 8] =
    ["libLLVM", "libjvm", "libluajit", "libjit", "libcoreclr", "libmono", "libnode", "libjavascriptcoregtk"];

/// Something about the target that a patch has to live with, or cannot.
#[derive(Debug, thiserror::Error)]
enum TargetError {
    #[error("{name} is the program's main function, which is not left before the program ends")]
    Main { name: String },
    #[error("{name} at {at} has a loop and no way out of it")]
    Endless { name: String, at: LinkAddr, back: LinkAddr, text: String },
    #[error("cannot replace {name} of {module}: it is a function of Go")]
    Go { name: String, module: String },
    #[error("{module} makes code at run time")]
    Jit { module: String },
    #[error("{module} has no build-id")]
    NoBuildId { module: String },
}

impl Explain for TargetError {
    fn hint(&self) -> Option<String> {
        match self {
            Self::Main { name } | Self::Endless { name, .. } => {
                Some(format!("replace the functions that it calls, or say --immediate {name}"))
            }
            Self::Go { .. } | Self::Jit { .. } | Self::NoBuildId { .. } => None,
        }
    }

    fn rule(&self) -> Option<&'static Rule> {
        Some(match self {
            Self::Main { .. } | Self::Endless { .. } => &rule::NEVER_RETURNS,
            Self::Go { .. } => &rule::GO_FUNCTION,
            Self::Jit { .. } => &rule::JIT_TARGET,
            Self::NoBuildId { .. } => &rule::NO_BUILD_ID,
        })
    }

    fn evidence(&self) -> Vec<String> {
        match self {
            Self::Endless { back, text, .. } => vec![format!("`{text}` at {back} goes back, and nothing leaves")],
            _ => Vec::new(),
        }
    }
}

/// Looks at each module that is patched, and at the functions in it.
pub fn check(study: &Study<'_>, findings: &mut Findings) {
    let module = || study.object.name.clone();
    if study.object.build_id.is_none() && !study.functions.is_empty() {
        findings.add(TargetError::NoBuildId { module: module() });
    }
    for f in &study.functions {
        if is_go(study.object) && is_go_name(&f.linked) {
            findings.add(TargetError::Go { name: f.name.clone(), module: module() });
        }
        if f.immediate {
            continue;
        }
        if f.linked == "main" && study.object.is_program() {
            findings.add(TargetError::Main { name: f.name.clone() });
        } else {
            endless(study, f).into_iter().for_each(|e| findings.add(e));
        }
    }
}

/// Looks at all that the target loads.
pub fn check_loaded(scope: &Scope<'_>, findings: &mut Findings) {
    let makes_code = |o: &&Object| CODE_MAKERS.iter().any(|maker| o.name.starts_with(maker));
    for object in scope.iter().map(|(_, object)| object).filter(makes_code) {
        findings.add(TargetError::Jit { module: object.name.clone() });
    }
}

fn is_go(object: &Object) -> bool {
    object.sections.iter().any(|s| matches!(s.name.as_str(), ".note.go.buildid" | ".gopclntab"))
}

/// `package.Function`; what gcc makes of C functions ends in a number (`f.constprop.0`) or in `cold`.
fn is_go_name(linked: &str) -> bool {
    let last = linked.rsplit('.').next().unwrap_or_default();
    linked.contains('.') && last != "cold" && last.parse::<u64>().is_err()
}

/// A function that has a way back and none out.
fn endless(study: &Study<'_>, f: &Function) -> Option<TargetError> {
    let decode = |p: &Fragment| prologue::decode(&p.bytes, p.addr).collect::<Vec<_>>();
    let mut code: Vec<Instruction> = Vec::new();
    for part in &f.fragments {
        for i in prologue::decode(&part.bytes, part.addr) {
            let to = prologue::branch_target(&i);
            match i.flow_control() {
                FlowControl::Return | FlowControl::IndirectBranch | FlowControl::Exception => return None,
                FlowControl::UnconditionalBranch | FlowControl::ConditionalBranch if !f.holds(to?) => return None,
                _ => {}
            }
        }
    }
    f.fragments.iter().for_each(|part| code.extend(decode(part)));
    code.sort_unstable_by_key(Instruction::ip);
    let ends = study.ends;
    // An exception, or longjmp, is a way out of the function.
    if code.iter().any(|i| ends.unwinds_at(i)) {
        return None;
    }
    let back = round(&code, ends, f.addr)?;
    let (at, text) = (LinkAddr(back.ip()), prologue::text(&back));
    Some(TargetError::Endless { name: f.name.clone(), at: f.addr, back: at, text })
}

/// A branch that leads back to where the code has come from: depth first, what is on the way is open, what has been left is
/// done. Behind a call that does not come back there is no way.
fn round(code: &[Instruction], ends: &Ends<'_>, entry: LinkAddr) -> Option<Instruction> {
    #[derive(Clone, Copy, PartialEq)]
    enum State {
        New,
        Open,
        Done,
    }
    let index = |at: u64| code.binary_search_by_key(&at, Instruction::ip).ok();
    let ways = |i: &Instruction| -> [Option<usize>; 2] {
        let behind = || index(i.next_ip());
        match flow(i) {
            Flow::Jump(to) => [index(to.0), None],
            Flow::Branch(to) => [behind(), index(to.0)],
            Flow::Next => [behind(), None],
            Flow::Call(_) | Flow::CallUnknown if !ends.ends_at(i) => [behind(), None],
            _ => [None, None],
        }
    };
    let mut states = vec![State::New; code.len()];
    let mut open: Vec<(usize, [Option<usize>; 2])> = Vec::new();
    let mut next = index(entry.0);
    loop {
        if let Some(n) = next.take() {
            *states.get_mut(n)? = State::Open;
            open.push((n, ways(code.get(n)?)));
        }
        let (n, left) = open.last_mut()?;
        let Some(to) = left.iter_mut().find_map(Option::take) else {
            *states.get_mut(*n)? = State::Done;
            open.pop();
            continue;
        };
        match states.get(to)? {
            State::Open => {
                // The way round: some step of it leads back.
                let way: Vec<usize> = open.iter().map(|(n, _)| *n).skip_while(|n| *n != to).chain([to]).collect();
                let back = way.windows(2).find(|step| step.first() >= step.last());
                return code.get(*back?.first()?).copied();
            }
            State::New => next = Some(to),
            State::Done => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_go() {
        for (name, want) in [
            ("main.handle", true),
            ("net/http.(*conn).serve", true),
            ("answer", false),
            ("answer.constprop.0", false),
            ("answer.cold", false),
        ] {
            assert_eq!(is_go_name(name), want, "{name}");
        }
    }
}
