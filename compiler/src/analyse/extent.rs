//! Whether a symbol tells the truth about the size of its function.

use super::function::{Function, is_padding, next_symbol};
use super::graph::instruction_text;
use super::prologue::branch_target;
use super::{Study, prologue};
use crate::finding::{Explain, Findings};
use crate::read::bodies::around;
use crate::read::symbols::Symbol;
use crate::rule::{self, Rule};
use iced_x86::{Decoder, DecoderError, DecoderOptions, FlowControl, Instruction, Mnemonic};
use lpb::LinkAddr;

/// A size that cannot be right.
#[derive(Debug, thiserror::Error)]
enum SizeError {
    #[error("{name} has more code than the {size} bytes of its symbol: `{text}` at {at} leads behind them")]
    Short { name: String, size: u64, at: LinkAddr, text: String },
    #[error("the {size} bytes of {name} reach over {other} at {at}")]
    Long { name: String, size: u64, other: String, at: LinkAddr },
    #[error("{name} has {size} bytes by its symbol, and {length} by {by}")]
    Differs { name: String, size: u64, length: u64, by: &'static str },
}

impl Explain for SizeError {
    fn hint(&self) -> Option<String> {
        None
    }

    fn rule(&self) -> Option<&'static Rule> {
        Some(&rule::WRONG_SIZE)
    }
}

/// Compares the size of each replaced function with its code and its neighbours.
pub fn check(study: &Study<'_>, findings: &mut Findings) {
    for f in &study.functions {
        differs(study, f).or_else(|| short(study, f)).into_iter().for_each(|e| findings.add(e));
        long(study, f).into_iter().for_each(|e| findings.add(e));
    }
}

/// What the compiler has written down says otherwise.
fn differs(study: &Study<'_>, f: &Function) -> Option<SizeError> {
    let tables = [&study.object.symtab, &study.object.dynamic.symbols];
    let by_symbol = tables.into_iter().flat_map(|table| table.at(f.addr)).any(|s| s.size == f.size);
    let lengths = study.dwarf.map(|dwarf| dwarf.functions().lengths(f.addr)).unwrap_or_default();
    let (length, by) = match lengths.iter().max() {
        Some(_) if lengths.iter().any(|length| !is_other(study, f, *length)) => return None,
        Some(length) => (*length, "its debug information"),
        // Assembly may describe less than there is, and never more.
        None => {
            let described = around(study.object.bodies(), f.addr).map(|b| b.range).filter(|r| r.start == f.addr)?;
            Some((described.size, "the unwind table")).filter(|(length, _)| *length > f.size)?
        }
    };
    let wrong = by_symbol && is_other(study, f, length);
    wrong.then(|| SizeError::Differs { name: f.name.clone(), size: f.size, length, by })
}

/// Whether there is more than padding between this length of a function and the size of its symbol.
fn is_other(study: &Study<'_>, f: &Function, length: u64) -> bool {
    let (least, most) = (length.min(f.size), length.max(f.size));
    let between = f.addr.plus(least).and_then(|at| study.object.memory(at, most.saturating_sub(least)).ok());
    between.is_none_or(|bytes| !is_padding(&bytes, bytes.len()))
}

/// The code goes on behind its end.
fn short(study: &Study<'_>, f: &Function) -> Option<SizeError> {
    let body = &f.fragments.first()?.bytes;
    let body = body.get(..lpb::addr::to_usize(f.size).min(body.len()))?;
    let i = runs_on(study, f, body).or_else(|| leads_on(study, f, body))?;
    // An instruction that the size cuts has its text only as a whole.
    let text = instruction_text(study.object, LinkAddr(i.ip()));
    Some(SizeError::Short { name: f.name.clone(), size: f.size, at: LinkAddr(i.ip()), text })
}

/// The last instruction is cut off, or goes on to the next one, which is of no other function. A call may be one that does not
/// return, `nop` is padding, and assembly may run on into the next function on purpose.
fn runs_on(study: &Study<'_>, f: &Function, body: &[u8]) -> Option<Instruction> {
    if runs_into_the_next(study, f.addr.plus(f.size)?) {
        return None;
    }
    if let Some(cut) = cut(study, f, body) {
        return Some(cut);
    }
    let padding = |m: Mnemonic| matches!(m, Mnemonic::Nop | Mnemonic::Int3);
    let last = prologue::decode(body, f.addr).filter(|i| !i.is_invalid() && !padding(i.mnemonic())).last()?;
    let ends = match last.flow_control() {
        FlowControl::Next | FlowControl::ConditionalBranch => matches!(last.mnemonic(), Mnemonic::Hlt),
        _ => true,
    };
    (!ends).then_some(last)
}

/// The instruction that a branch of the function leads to, of which the size leaves only the first bytes.
fn cut(study: &Study<'_>, f: &Function, body: &[u8]) -> Option<Instruction> {
    let mut decoder = Decoder::with_ip(64, body, f.addr.0, DecoderOptions::NONE);
    let last = decoder.iter().last()?;
    let at = LinkAddr(last.ip());
    let is_cut = last.is_invalid() && decoder.last_error() == DecoderError::NoMoreBytes;
    let wanted = is_cut && prologue::decode(body, f.addr).any(|i| branch_target(&i) == Some(at));
    (wanted && !instruction_text(study.object, at).is_empty()).then_some(last)
}

/// A jump leads behind the end, before anything else begins: code that belongs to no symbol. Where `.symtab` is missing,
/// another function may be there.
fn leads_on(study: &Study<'_>, f: &Function, body: &[u8]) -> Option<Instruction> {
    let object = study.object;
    let end = f.addr.plus(f.size).filter(|_| !object.symtab.is_empty())?;
    let next = next_symbol(object, LinkAddr(end.0.checked_sub(1)?));
    let behind = |to: LinkAddr| {
        let room = next.since(to).filter(|_| to >= end && to < next && !f.holds(to));
        let bytes = room.and_then(|room| object.memory(to, room).ok());
        bytes.is_some_and(|bytes| !is_padding(&bytes, bytes.len()))
    };
    let jumps = |i: &Instruction| i.flow_control() != FlowControl::Call && branch_target(i).is_some_and(behind);
    prologue::decode(body, f.addr).find(jumps)
}

/// Whether nothing but padding is between this address and the next function.
fn runs_into_the_next(study: &Study<'_>, end: LinkAddr) -> bool {
    const MOST: u64 = 64;
    let tables = [&study.object.symtab, &study.object.dynamic.symbols];
    let next = tables.into_iter().filter_map(|table| table.from(end).find(|s| s.is_function()).map(|s| s.value)).min();
    let room = next.and_then(|next| next.since(end)).filter(|room| *room <= MOST);
    let padding = room.and_then(|room| study.object.memory(end, room).ok());
    padding.is_some_and(|bytes| is_padding(&bytes, bytes.len()))
}

/// Another function starts inside, which is no part of it.
fn long(study: &Study<'_>, f: &Function) -> Option<SizeError> {
    let behind = f.site.plus(lpb::JUMP_LEN)?;
    let inside = |s: &&Symbol| s.value.since(f.addr).is_some_and(|n| n < f.size);
    let mut others = [&study.object.symtab, &study.object.dynamic.symbols].into_iter().flat_map(|table| {
        let all = table.from(behind).take_while(inside).filter(|s| s.is_function() && s.size != 0);
        all.map(move |s| (table.text(s), s.value))
    });
    let (other, at) = others.next()?;
    Some(SizeError::Long { name: f.name.clone(), size: f.size, other, at })
}
